package action

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/internal/uses"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

// The log of runs is the file "runs" in the repository; when it has grown it
// becomes "runs.old" and a new one begins. It is what explain and stats go by,
// and may be lost. Each run is a line, its fields parted by tabs:
//
//	"run1"   magic and version
//	milliseconds since 1970, at the end of the run
//	outcome  hit, miss (executed, and kept) or uncached (executed, not kept)
//	key      64 digits
//	family   16 digits: what runs that differ in little else have in common
//	microseconds that the run took
//	microseconds that the command took (hit: when the result was made)
//	exit code
//	reason   why the result was not kept, a Go string
//	label    the command line, a Go string
//	base     64 digits: the key of the entry of kind "deps" that led to key; or a dash
//
// Lines that are cut short or not understood are passed over.
const (
	logFile    = "runs"
	oldLogFile = "runs.old"
	logMagic   = "run1"
	logFields  = 11
	maxLog     = 4 << 20
	maxLabel   = 120
)

// An Outcome says what became of a run.
type Outcome string

// The outcomes.
const (
	Hit      Outcome = "hit"      // the result was there
	Miss     Outcome = "miss"     // the command ran, and its result was kept
	Uncached Outcome = "uncached" // the command ran, and its result was not kept
)

// A Ran is a line of the log.
type Ran struct {
	Time    time.Time
	Outcome Outcome
	Key     objects.ID // zero if it never came to one
	Base    objects.ID // of what is known to be read by it; zero without a depfile
	Family  uint64
	Took    time.Duration // the whole run
	Command time.Duration // what the command itself took
	Exit    int
	Reason  string
	Label   string
}

func (r Ran) append(dst []byte) []byte {
	base := noBase
	if !r.Base.IsZero() {
		base = r.Base.String()
	}
	return fmt.Appendf(dst, "%s\t%d\t%s\t%s\t%016x\t%d\t%d\t%d\t%q\t%q\t%s\n", logMagic, r.Time.UnixMilli(), r.Outcome, r.Key,
		r.Family, r.Took.Microseconds(), r.Command.Microseconds(), r.Exit, r.Reason, r.Label, base)
}

const noBase = "-"

var errLogLine = errors.New("not a line of the log of runs")

func parseRan(line string) (r Ran, err error) {
	f := strings.Split(line, "\t")
	if len(f) != logFields || f[0] != logMagic {
		return r, errLogLine
	}
	var errs [9]error
	var ms, took, command int64
	ms, errs[0] = strconv.ParseInt(f[1], 10, 64)
	r.Time, r.Outcome = time.UnixMilli(ms), Outcome(f[2])
	r.Key, errs[1] = objects.ParseID(f[3])
	r.Family, errs[2] = strconv.ParseUint(f[4], 16, 64)
	took, errs[3] = strconv.ParseInt(f[5], 10, 64)
	command, errs[4] = strconv.ParseInt(f[6], 10, 64)
	r.Took, r.Command = time.Duration(took)*time.Microsecond, time.Duration(command)*time.Microsecond
	r.Exit, errs[5] = strconv.Atoi(f[7])
	r.Reason, errs[6] = strconv.Unquote(f[8])
	r.Label, errs[7] = strconv.Unquote(f[9])
	if f[10] != noBase {
		r.Base, errs[8] = objects.ParseID(f[10])
	}
	if r.Outcome != Hit && r.Outcome != Miss && r.Outcome != Uncached {
		return r, errLogLine
	}
	return r, errors.Join(errs[:]...)
}

// record adds a run to the log of the repository at dir.
func record(dir string, r Ran) error {
	name := filepath.Join(dir, logFile)
	f, err := durable.OpenAppend(name)
	if err != nil {
		return fmt.Errorf("log of runs: %w", err)
	}
	defer f.Close()
	if err := durable.Append(f, r.append(nil)); err != nil {
		return fmt.Errorf("log of runs: %w", err)
	}
	if size, err := f.Seek(0, 1); err == nil && size > maxLog {
		rotate(dir)
	}
	return nil
}

// NoteUses notes in t what a run took out of the cache.
func (r Ran) NoteUses(t uses.Table) {
	if r.Outcome != Hit {
		return
	}
	day := uses.Today(r.Time)
	t.Note(day, entry.Path(entry.Run, r.Key.String()))
	if !r.Base.IsZero() {
		t.Note(day, entry.Path(Deps, r.Base.String()))
	}
}

// rotate begins a new log, unless somebody else has just done so. What was used stays
// known longer than the log does.
func rotate(dir string) {
	lock, err := durable.TryExclusive(filepath.Join(dir, lockFile))
	if err != nil {
		return
	}
	defer lock.Unlock()
	name := filepath.Join(dir, logFile)
	if fi, err := os.Stat(name); err == nil && fi.Size() > maxLog {
		used := uses.Table{}
		if runs, err := Log(dir); err == nil {
			for _, r := range runs {
				r.NoteUses(used)
			}
		}
		_ = uses.Append(dir, used)
		_ = durable.Rename(name, filepath.Join(dir, oldLogFile), durable.NoSync)
	}
}

// Log returns the last runs of the repository at dir, oldest first.
func Log(dir string) ([]Ran, error) {
	var runs []Ran
	for _, name := range [...]string{oldLogFile, logFile} {
		var err error
		if runs, err = appendLog(runs, filepath.Join(dir, name), 0); err != nil {
			return runs, err
		}
	}
	return runs, nil
}

// appendLog adds the runs in a file, from an offset on. Without such a file there are
// none.
func appendLog(runs []Ran, name string, from int64) ([]Ran, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return runs, nil
	}
	if err != nil {
		return runs, fmt.Errorf("log of runs: %w", err)
	}
	for line := range bytes.Lines(text[min(from, int64(len(text))):]) {
		if r, err := parseRan(strings.TrimSuffix(string(line), "\n")); err == nil {
			runs = append(runs, r)
		}
	}
	return runs, nil
}

// A Mark is a place in the log of runs. What comes after it is told by that alone:
// clocks may be set meanwhile.
type Mark struct{ end fs.FileInfo } // of the file when the mark was made; nil if there was none

// MarkLog marks the end of the log of the repository at dir.
func MarkLog(dir string) Mark {
	fi, err := os.Stat(filepath.Join(dir, logFile))
	if err != nil {
		return Mark{}
	}
	return Mark{fi}
}

// LogSince returns the runs of the repository at dir since the mark was made, oldest
// first.
func LogSince(dir string, m Mark) ([]Ran, error) {
	name, old := filepath.Join(dir, logFile), filepath.Join(dir, oldLogFile)
	if m.end == nil {
		return appendLog(nil, name, 0)
	}
	if fi, err := os.Stat(name); err == nil && os.SameFile(fi, m.end) {
		return appendLog(nil, name, m.end.Size())
	}
	var runs []Ran
	if fi, err := os.Stat(old); err == nil && os.SameFile(fi, m.end) {
		if runs, err = appendLog(nil, old, m.end.Size()); err != nil {
			return runs, err
		}
	}
	return appendLog(runs, name, 0)
}

// label returns the command line, shortened for people.
func label(args []string) string {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if arg == "" || strings.ContainsAny(arg, " \t\n'\"\\$`") {
			arg = "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
		}
		if b.Len()+len(arg) > maxLabel {
			b.WriteString("…")
			break
		}
		b.WriteString(arg)
	}
	return strings.ToValidUTF8(b.String(), "?")
}
