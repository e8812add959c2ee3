package worktree

import (
	"bytes"
	"encoding/binary"
)

// eachName calls fn for the names in what getdents64(2) has returned:
//
//	8 bytes  inode
//	8 bytes  offset
//	2 bytes  length of the record
//	1 byte   type
//	n bytes  name, NUL
func eachName(buf []byte, fn func(name string, kind uint8)) {
	const nameOffset = 19
	for len(buf) > nameOffset {
		length := int(binary.NativeEndian.Uint16(buf[16:]))
		if length <= nameOffset || length > len(buf) {
			return
		}
		name := buf[nameOffset:length]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if s := string(name); s != "." && s != ".." {
			fn(s, buf[nameOffset-1])
		}
		buf = buf[length:]
	}
}
