package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
)

func testSession() (s *session, out, err *bytes.Buffer) {
	out, err = new(bytes.Buffer), new(bytes.Buffer)
	return newSession(Streams{In: strings.NewReader(""), Out: out, Err: err}), out, err
}

// A list is one document, whatever happens on the way.
func TestList(t *testing.T) {
	for _, tt := range []struct {
		head  any
		n     int
		cause error
		want  string
	}{
		{nil, 0, nil, `{"items":[]}`},
		{nil, 2, nil, `{"items":[0,1]}`},
		{map[string]string{"key": "<a>"}, 1, nil, `{"key":"<a>","items":[0]}`},
		{struct{}{}, 1, nil, `{"items":[0]}`},
		{nil, 1, errors.New(`broke "off"`), `{"items":[0],"error":{"message":"broke \"off\""}}`},
	} {
		s, out, _ := testSession()
		l, err := s.list(tt.head, "items")
		if err != nil {
			t.Fatal(err)
		}
		for i := range tt.n {
			if err := l.add(i); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.end(tt.cause); !errors.Is(err, tt.cause) {
			t.Errorf("end(%v) = %v", tt.cause, err)
		}
		s.out.Flush()
		if got := strings.TrimSpace(out.String()); got != tt.want {
			t.Errorf("document %s, want %s", got, tt.want)
		}
		if !json.Valid(out.Bytes()) {
			t.Errorf("no JSON: %s", out)
		}
	}
}

func TestExitCodes(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(t.Context())
	cancel(Interrupted{syscall.SIGTERM})
	for _, tt := range []struct {
		ctx     context.Context
		err     error
		code    int
		message string // on standard error
	}{
		{t.Context(), nil, 0, ""},
		{t.Context(), errors.New("it broke"), 1, "cache-tool: it broke\n"},
		{t.Context(), usagef("what?"), 2, "cache-tool: what?\n"},
		{t.Context(), withHint(missf("not there"), "look elsewhere"), 3, "cache-tool: not there\nhint: look elsewhere\n"},
		{t.Context(), &conflictError{text: "both"}, 4, "cache-tool: both\n"},
		{t.Context(), fmt.Errorf("reset: %w", &refs.ConflictError{Name: "refs/heads/main", Is: objects.ID{1}, Expected: objects.ID{2}}), 4,
			"cache-tool: reset: refs/heads/main is at 010000000000, expected 020000000000\nhint: another process moved it meanwhile: run the command again\n"},
		{t.Context(), exitStatus(7), 7, ""},
		{t.Context(), errPipe, 141, ""},
		{interrupted, context.Canceled, 143, "cache-tool: interrupted\n"},
		{t.Context(), &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, 1,
			"cache-tool: write x: no space left on device\nhint: the disk is full; nothing was changed: make room and run the command again\n"},
		{t.Context(), errors.New("\x1b[31mred"), 1, "cache-tool: ?[31mred\n"},
	} {
		s, _, message := testSession()
		if got := s.finish(tt.ctx, tt.err); got != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.code)
		}
		if got := message.String(); got != tt.message {
			t.Errorf("%v: standard error %q, want %q", tt.err, got, tt.message)
		}
	}
}

// A full disk behind standard output is an error, a reader who went away is not.
func TestOutputErrors(t *testing.T) {
	for _, tt := range []struct {
		err    error
		code   int
		silent bool
	}{
		{syscall.EPIPE, 141, true},
		{syscall.ENOSPC, 1, false},
	} {
		message := new(bytes.Buffer)
		s := newSession(Streams{In: strings.NewReader(""), Out: failing{tt.err}, Err: message})
		s.printf("something")
		if got := s.finish(t.Context(), nil); got != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.code)
		}
		if got := message.Len() == 0; got != tt.silent {
			t.Errorf("%v: said %q", tt.err, message)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

var _ io.Writer = failing{}

// Every verb has a page, an example, and flags that no other flag hides.
func TestVerbs(t *testing.T) {
	s, _, _ := testSession()
	names := map[string]bool{}
	for _, v := range verbs() {
		command := v.build(s)
		if command.Name != v.name {
			t.Errorf("%s: the command is called %s", v.name, command.Name)
		}
		if names[v.name] {
			t.Errorf("%s: twice", v.name)
		}
		names[v.name] = true
		if !command.Hidden && (command.Usage == "" || command.Category == "" || !strings.Contains(command.Description, "\n\nExample:\n  ")) {
			t.Errorf("%s: page without usage, category or example", v.name)
		}
		for _, line := range strings.Split(command.Description, "\n") {
			if len([]rune(line)) > 90 {
				t.Errorf("%s: too long for a terminal: %q", v.name, line)
			}
		}
		flags := map[string]bool{}
		for _, f := range append(withHelp(command.Flags), globalFlags(s)...) {
			for _, name := range f.Names() {
				if flags[name] {
					t.Errorf("%s: flag %s is there twice", v.name, dashed(name))
				}
				flags[name] = true
			}
		}
	}
}
