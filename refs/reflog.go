package refs

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// A LogEntry is one move of a ref.
//
// A reflog has a line for each, oldest first, as Git writes them:
//
//	old SP new SP name SP '<' address '>' SP seconds SP zone TAB reason LF
//
// A crash can cut the last line short, and then more lines follow it or not.
// Readers skip what is no line.
type LogEntry struct {
	Old, New objects.ID // a zero Old: it was made; a zero New: it was deleted
	Who      objects.Signature
	Reason   string
}

// maxReason bounds what a caller can make of a line.
const maxReason = 1000

// encode returns the line, with its end.
func (e LogEntry) encode() []byte {
	reason := strings.Join(strings.Fields(strings.ToValidUTF8(e.Reason, "?")), " ")
	reason = strings.ReplaceAll(reason, "\x00", "?")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	who := strings.ReplaceAll(e.Who.String(), "\t", " ")
	return fmt.Appendf(nil, "%s %s %s\t%s\n", e.Old, e.New, who, reason)
}

// parseLogLine is the inverse of encode; line is without its end.
func parseLogLine(line string) (LogEntry, error) {
	const ids = 2 * (2*objects.IDSize + 1)
	var e LogEntry
	if len(line) < ids || line[ids/2-1] != ' ' || line[ids-1] != ' ' {
		return e, fmt.Errorf("reflog line %.40q: wants two ids", line)
	}
	var err error
	if e.Old, err = objects.ParseID(line[:ids/2-1]); err != nil {
		return e, err
	}
	if e.New, err = objects.ParseID(line[ids/2 : ids-1]); err != nil {
		return e, err
	}
	who, reason, _ := strings.Cut(line[ids:], "\t")
	e.Reason = reason
	e.Who, err = objects.ParseSignature(who)
	return e, err
}

// ParseLog reads a reflog. It skips what is no line, and says how many times:
// one is what a crash leaves.
func ParseLog(data []byte) (entries []LogEntry, skipped int) {
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		if e, err := parseLogLine(string(line)); err == nil && whole {
			entries = append(entries, e)
		} else {
			skipped++
		}
	}
	return entries, skipped
}

// announced reports whether e says that the ref was to move away from where it
// still is: the process died between writing the line and the ref.
func (e LogEntry) announced(now objects.ID) bool { return e.Old == now && e.New != now }
