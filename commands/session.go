package commands

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A session is one run of the command line: its streams, its global flags and
// what it has opened.
type session struct {
	in     io.Reader
	out    *bufio.Writer // flushed by finish
	err    io.Writer
	stdout io.Writer // what out writes to, for a command that we start

	repoFlag, branchFlag             string
	json, quiet, noProgress, verbose bool

	began    time.Time
	verb     string // the command that runs, once it is known
	dashes   int    // how many arguments stood before "--", or -1
	answered bool   // the one JSON document has been printed
	terminal bool   // standard output is a person's
	meter    *meter // what progress shows now, or nil
	closers  []func() error
	fetched  atomic.Int64 // bytes that a lazy repository was brought

	warning sync.Mutex // held while a line is written to err: those who read at once warn at once
}

func newSession(streams Streams) *session {
	out := &output{w: streams.Out}
	return &session{
		began:    time.Now(),
		in:       streams.In,
		stdout:   streams.Out,
		out:      bufio.NewWriterSize(out, 16<<10),
		err:      streams.Err,
		terminal: isTerminal(streams.Out),
	}
}

// close ends what the session has opened, the last one first.
func (s *session) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// errPipe is a write to standard output that nobody reads any more: `log | head`
// is no error to tell anyone about.
var errPipe = errors.New("standard output is closed")

// output is standard output, its errors told apart from those of files.
type output struct{ w io.Writer }

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		return n, errPipe
	}
	if err != nil {
		return n, fmt.Errorf("write standard output: %w", err)
	}
	return n, nil
}

// isTerminal reports whether w is a device that a person may be looking at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// printf writes what a command was asked for; not for --json.
func (s *session) printf(format string, args ...any) {
	fmt.Fprintf(s.out, format, args...)
}

// say tells what was done; --quiet and --json keep it silent.
func (s *session) say(format string, args ...any) {
	if !s.quiet && !s.json {
		fmt.Fprintf(s.out, format+"\n", args...)
	}
}

// warn tells on standard error what went wrong without stopping the command.
func (s *session) warn(format string, args ...any) {
	s.warning.Lock()
	defer s.warning.Unlock()
	s.meter.clear()
	fmt.Fprintf(s.err, "%s%s: warning: %s\n", programName, prefix(s.verb), harmless(fmt.Sprintf(format, args...)))
}

// detail tells on standard error what --verbose asks for.
func (s *session) detail(format string, args ...any) {
	if s.verbose {
		s.warning.Lock()
		defer s.warning.Unlock()
		s.meter.clear()
		fmt.Fprintln(s.err, harmless(fmt.Sprintf(format, args...)))
	}
}

// answer prints the one document of --json: on one line, or indented for a
// person.
func (s *session) answer(document any) error {
	s.answered = true
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	if s.terminal {
		e.SetIndent("", "  ")
	}
	return e.Encode(document)
}

// A list prints a JSON document whose last member is a long array, an element
// at a time, so that a million entries need no memory:
//
//	{"head":…,"name":[element,…]}
//
// Where it breaks off, the document says so in a member "error" and is still
// whole.
type list struct {
	s *session
	n int
}

// list begins the document with the members of head, which may be nil.
func (s *session) list(head any, name string) (*list, error) {
	s.answered = true
	open := []byte("{")
	if head != nil {
		body, err := marshal(head)
		if err != nil {
			return nil, err
		}
		if open = body[:len(body)-1]; len(open) > 1 {
			open = append(open, ',')
		}
	}
	_, err := fmt.Fprintf(s.out, "%s%q:[", open, name)
	return &list{s: s}, err
}

func (l *list) add(element any) error {
	body, err := marshal(element)
	if err != nil {
		return err
	}
	if l.n++; l.n > 1 {
		l.s.out.WriteByte(',')
	}
	_, err = l.s.out.Write(body)
	return err
}

// end closes the document and returns cause, which the document then names.
func (l *list) end(cause error) error {
	if cause != nil {
		body, err := marshal(cause.Error())
		if err != nil {
			return err
		}
		fmt.Fprintf(l.s.out, "],\"error\":{\"message\":%s}}\n", body)
		return cause
	}
	_, err := l.s.out.WriteString("]}\n")
	return err
}

func marshal(v any) ([]byte, error) {
	var line lineBuffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return line.b, err
}

// A lineBuffer keeps what Encode writes, without the line break at its end.
type lineBuffer struct{ b []byte }

func (l *lineBuffer) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b); n > 0 && l.b[n-1] == '\n' {
		l.b = l.b[:n-1]
	}
	return len(p), nil
}
