package refs

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// A move is an Update with the line that the reflog gets for it.
type move struct {
	name Name
	LogEntry
}

// A journal is what several refs that move together are about to become. Once
// it is on disk the move has happened: readers look into it before they look at
// the refs, and the next writer finishes what a dead one left.
//
//	"cache-tool refs journal 1" LF
//	for each ref:  name TAB its line in the reflog, LF and all
//	8 hexadecimal digits: CRC-32C of the bytes above, LF
//
// An empty file is a journal that is done with.
type journal []move

// errNewerJournal says that a later version of this program has left a journal.
var errNewerJournal = errors.New("a newer cache-tool wrote it")

const journalHead = "cache-tool refs journal "

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (j journal) encode() []byte {
	b := []byte(journalHead + "1\n")
	for _, m := range j {
		b = append(b, m.name...)
		b = append(b, '\t')
		b = append(b, m.LogEntry.encode()...)
	}
	return sealJournal(b)
}

func sealJournal(body []byte) []byte {
	return fmt.Appendf(body, "%08x\n", crc32.Checksum(body, castagnoli))
}

func parseJournal(data []byte) (journal, error) {
	if len(data) == 0 {
		return nil, nil
	}
	version, ok := strings.CutPrefix(string(data), journalHead)
	if version, _, _ = strings.Cut(version, "\n"); ok && version != "1" {
		return nil, fmt.Errorf("version %.10q is not known: %w", version, errNewerJournal)
	}
	body := data[:max(0, len(data)-9)]
	if !ok || !bytes.HasSuffix(body, []byte("\n")) || string(data[len(body):]) != fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)) {
		return nil, errors.New("its checksum is wrong")
	}
	var j journal
	lines := bytes.Split(body, []byte("\n"))
	for _, line := range lines[1 : len(lines)-1] {
		name, rest, _ := strings.Cut(string(line), "\t")
		e, err := parseLogLine(rest)
		if err != nil {
			return nil, err
		}
		if err := Name(name).Check(); err != nil {
			return nil, err
		}
		j = append(j, move{Name(name), e})
	}
	return j, nil
}

// find returns the move of name.
func (j journal) find(name Name) (move, bool) {
	for _, m := range j {
		if m.name == name {
			return m, true
		}
	}
	return move{}, false
}

// get returns what name is once the journal is worked off; id and err are what
// it is without.
func (j journal) get(name Name, id objects.ID, err error) (objects.ID, error) {
	m, ok := j.find(name)
	switch {
	case !ok:
		return id, err
	case m.New.IsZero():
		return objects.ID{}, notFound(name)
	}
	return m.New, nil
}

func notFound(name Name) error { return fmt.Errorf("%s: %w", name, ErrNotFound) }
