package gitwire

import (
	"fmt"
	"io"

	"github.com/cache-tool/cache-tool/objects"
)

// The content types, and the header with which clients say which version they speak.
const (
	RequestType   = "application/x-git-upload-pack-request"
	ResultType    = "application/x-git-upload-pack-result"
	AdvertiseType = "application/x-git-upload-pack-advertisement"

	VersionHeader = "Git-Protocol"
)

// Advertisement is what a server says it can do: all of what ParseRequest reads.
func Advertisement() []byte {
	var b []byte
	for _, line := range []string{
		"version 2",
		"agent=cache-tool",
		"ls-refs=unborn",
		"fetch=shallow filter",
		"object-format=sha256",
	} {
		b = AppendLine(b, "%s", line)
	}
	return append(b, Flush...)
}

// Refusal is what a server says, in place of any answer, to whom it cannot serve. Git
// shows it as "remote error".
func Refusal(message string) []byte { return AppendLine(nil, "ERR %s", message) }

// OldRefusal is Refusal before a client of the older protocols that has not asked for
// anything yet.
func OldRefusal(message string) []byte {
	b := AppendLine(nil, "# service=git-upload-pack")
	return append(append(b, Flush...), Refusal(message)...)
}

// A Ref is a line of the answer to a List.
type Ref struct {
	Name   string
	ID     objects.ID // zero: unborn
	Symref string     // the ref that it stands for; empty if for none
	Peeled objects.ID // what the annotated tag points to; zero if it is none
}

// AppendRef appends the line of a ref.
func AppendRef(dst []byte, r Ref) []byte {
	id, more := "unborn", ""
	if !r.ID.IsZero() {
		id = r.ID.String()
	}
	if r.Symref != "" {
		more = " symref-target:" + r.Symref
	}
	if !r.Peeled.IsZero() {
		more += " peeled:" + r.Peeled.String()
	}
	return AppendLine(dst, "%s %s%s", id, r.Name, more)
}

// AppendAcknowledgments appends the section that says which of a client's commits are
// known. Ready says that these are enough: a pack follows. If it does not, the answer
// ends here.
func AppendAcknowledgments(dst []byte, common []objects.ID, ready bool) []byte {
	dst = AppendLine(dst, "acknowledgments")
	if len(common) == 0 {
		dst = AppendLine(dst, "NAK")
	}
	for _, id := range common {
		dst = AppendLine(dst, "ACK %s", id)
	}
	if !ready {
		return append(dst, Flush...)
	}
	dst = AppendLine(dst, "ready")
	return append(dst, Delimiter...)
}

// AppendShallow appends the section that says where history ends in the pack, and at
// which commits of the client it ends no more.
func AppendShallow(dst []byte, shallow, unshallow []objects.ID) []byte {
	dst = AppendLine(dst, "shallow-info")
	for _, id := range shallow {
		dst = AppendLine(dst, "shallow %s", id)
	}
	for _, id := range unshallow {
		dst = AppendLine(dst, "unshallow %s", id)
	}
	return append(dst, Delimiter...)
}

// AppendPackHead appends the line after which nothing but bands come.
func AppendPackHead(dst []byte) []byte { return AppendLine(dst, "packfile") }

// What a line of a pack's section is about stands in its first byte.
const (
	bandPack     = 1
	bandProgress = 2
	bandError    = 3
)

// KeepAlive is a line with nothing of the pack, for those who wait for it.
var KeepAlive = []byte{'0', '0', '0', '5', bandPack}

// A PackWriter writes a pack, each full line of it with one call.
type PackWriter struct {
	w   io.Writer
	buf []byte // what comes next, with room for its length
}

// NewPackWriter returns a PackWriter, which writes to w.
func NewPackWriter(w io.Writer) *PackWriter {
	return &PackWriter{w, append(make([]byte, 0, maxLine), 0, 0, 0, 0, bandPack)}
}

// Write takes a part of the pack.
func (p *PackWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		room := min(maxLine-len(p.buf), len(b))
		p.buf, b = append(p.buf, b[:room]...), b[room:]
		if len(p.buf) == maxLine {
			if err := p.send(); err != nil {
				return n - len(b), err
			}
		}
	}
	return n, nil
}

func (p *PackWriter) send() error {
	if len(p.buf) == 5 {
		return nil
	}
	putLength(p.buf, len(p.buf))
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:5]
	return err
}

// Close sends what is left of the pack and ends the answer.
func (p *PackWriter) Close() error {
	if err := p.send(); err != nil {
		return err
	}
	_, err := io.WriteString(p.w, Flush)
	return err
}

// Progress returns a line for the client's terminal. A text that ends in "\r" is
// overwritten by the next.
func Progress(text string) []byte { return band(bandProgress, text) }

// Failure returns the line that tells the client why the pack ends here.
func Failure(text string) []byte { return band(bandError, text+"\n") }

func band(b byte, text string) []byte {
	const most = 1000 // what bands carry for people is cut off where old clients stop reading
	line := fmt.Appendf(nil, "0000%c%.*s", b, most-5, text)
	putLength(line, len(line))
	return line
}
