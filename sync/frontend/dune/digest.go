package dune

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/zeebo/blake3"
)

// A Digest is what Dune names rules and files by. It is written as 32 hexadecimal
// digits, in lower case.
type Digest [16]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// parseDigest takes only what String writes.
func parseDigest(s string) (d Digest, ok bool) {
	if len(s) != 2*len(d) {
		return d, false
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return d, false
	}
	return d, d.String() == s
}

// A hashing is the way in which Dune makes a name of a file's content and its
// executable bit. It is the whole protection that a cache has: Dune itself believes
// whatever stands under a name.
//
//	md5       up to 3.19    md5(md5(content) ‖ 00 or 01)
//	blake3    from 3.20 on  b3(hex(b3(content)) ‖ 00 or 01), 128 bits of it
type hashing string

const (
	byMD5    hashing = "md5"
	byBlake3 hashing = "blake3"
)

// hashings returns what files may be named by that go with a version of metadata.
func hashings(version int) []hashing {
	if version == 4 {
		return []hashing{byMD5}
	}
	return []hashing{byBlake3, byMD5}
}

// A namer is told the content of a file, and then what Dune calls it.
type namer interface {
	io.Writer
	name(executable bool) Digest
}

// namer returns a new one, or nil for a hashing that is not known.
func (h hashing) namer() namer {
	switch h {
	case byMD5:
		return md5Namer{md5.New()}
	case byBlake3:
		return blake3Namer{blake3.New()}
	}
	return nil
}

type md5Namer struct{ hash.Hash }

func (n md5Namer) name(executable bool) Digest {
	return md5.Sum(append(n.Sum(nil), bit(executable)))
}

type blake3Namer struct{ *blake3.Hasher }

func (n blake3Namer) name(executable bool) Digest {
	var content Digest
	n.Digest().Read(content[:])
	sum := blake3.Sum256(append([]byte(content.String()), bit(executable)))
	return Digest(sum[:len(content)])
}

func bit(executable bool) byte {
	if executable {
		return 1
	}
	return 0
}

// errWrongName is a file that is not what its name says.
var errWrongName = errors.New("its content is not what its name says")
