// Package goprog is a GOCACHEPROG: the program that the go command asks for what it
// has compiled before, and gives what it has compiled now.
//
// Both sides write JSON, one document on a line. After a "put" of some bytes these
// follow, as one JSON string in base 64. An answer has the ID of its request; the one
// with ID 0 comes first, and lists the commands. What was compiled (an output) is
// called by its SHA-256, what led to it (an action) by another, and the go command
// wants the name of a file that holds the output.
//
// In the store an action is a key, and its output the value; the meta says how the
// output is called ("output").
package goprog

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/sync/frontend"
)

// Kind is that of the entries that hold outputs.
const Kind entry.Kind = "go"

const extraOutput = "output"

// Options say what is served. Dir is needed.
type Options struct {
	Store frontend.Store // nil: everything is a miss, and nothing is kept

	// Dir is where outputs are plain files: see files.
	Dir string

	// MaxSize is how many bytes of them stay, about. Zero is any number.
	MaxSize int64

	// Local says that the store answers at once: to hand a request over to another
	// goroutine would take as long as to answer it.
	Local bool

	// Close is called once, when no more is stored, and waits until all of it is.
	Close func(ctx context.Context) error
}

// request and response are those of the go command.
type request struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
}

type response struct {
	ID            int64
	Err           string     `json:",omitempty"`
	KnownCommands []string   `json:",omitempty"`
	Miss          bool       `json:",omitempty"`
	OutputID      []byte     `json:",omitempty"`
	Size          int64      `json:",omitempty"`
	Time          *time.Time `json:",omitempty"`
	DiskPath      string     `json:",omitempty"`
}

// Serve answers the requests that come from in until it ends. An error is one of
// reading or writing these: nobody listens any more.
func Serve(ctx context.Context, in io.Reader, out io.Writer, o Options) (frontend.Stats, error) {
	s := &server{
		o: o, files: newFiles(o.Dir),
		in: bufio.NewReaderSize(in, 256<<10), out: json.NewEncoder(out),
	}
	s.gets.SetLimit(64)
	err := s.answer(response{KnownCommands: []string{"get", "put", "close"}})
	for err == nil {
		err = s.next(ctx)
	}
	s.close(ctx)
	if err == io.EOF {
		err = nil
	}
	return s.stats, err
}

type server struct {
	o     Options
	files *files
	in    *bufio.Reader
	gets  errgroup.Group // under way

	closing sync.Once

	writing sync.Mutex
	out     *json.Encoder // guarded by writing

	counting sync.Mutex
	stats    frontend.Stats // guarded by counting
}

func (s *server) answer(r response) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.out.Encode(r)
}

// count counts what a request came to.
func (s *server) count(began time.Time, st frontend.Stats) {
	s.counting.Lock()
	defer s.counting.Unlock()
	st.Time = time.Since(began)
	s.stats = s.stats.Add(st)
}

// next reads one request. Those that take no body are answered in the background.
func (s *server) next(ctx context.Context) error {
	line, err := s.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	if len(line) <= 1 {
		return nil
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	switch r.Command {
	case "get":
		if s.o.Local {
			if a, ok := s.get(ctx, r, ifThere); ok {
				return s.answer(a)
			}
		}
		s.gets.Go(func() error {
			a, _ := s.get(ctx, r, always)
			return s.answer(a) // and if nobody listens nobody sends any more
		})
		return nil
	case "put":
		return s.put(ctx, r)
	case "close":
		s.close(ctx)
		return s.answer(response{ID: r.ID})
	}
	return s.answer(response{ID: r.ID, Err: fmt.Sprintf("unknown command %q", r.Command)})
}

// close waits for what is under way. Then old files go.
func (s *server) close(ctx context.Context) {
	s.closing.Do(func() {
		_ = s.gets.Wait()
		if s.o.Close != nil {
			_ = s.o.Close(ctx) // which has said what was wrong
		}
		s.files.trim(s.o.MaxSize)
	})
}

// An effort says whether to make a file for an output that has none.
type effort bool

const (
	ifThere effort = false
	always  effort = true
)

// get looks an action up; it is not ok if that takes more effort.
func (s *server) get(ctx context.Context, r request, e effort) (a response, ok bool) {
	began := time.Now()
	v, output, path, err := s.find(ctx, hex.EncodeToString(r.ActionID), e)
	switch {
	case errors.Is(err, errNoFile):
		return a, false
	case err != nil:
		s.count(began, frontend.Stats{Misses: 1})
		return response{ID: r.ID, Miss: true}, true
	}
	s.count(began, frontend.Stats{Hits: 1, Out: v.Size})
	return response{ID: r.ID, OutputID: output, Size: v.Size, Time: &v.Meta.Created, DiskPath: path}, true
}

var (
	errNoStore = errors.New("there is no store")
	errNoFile  = errors.New("there is no file yet")
)

// find returns the output of an action, and the file that holds it.
func (s *server) find(ctx context.Context, action string, e effort) (v entry.Stored, output []byte, path string, err error) {
	if s.o.Store == nil {
		return v, nil, "", errNoStore
	}
	if v, err = s.o.Store.Get(ctx, Kind, action); err != nil {
		return v, nil, "", err
	}
	name := v.Meta.Extra[extraOutput]
	if output, err = hex.DecodeString(name); err != nil || len(output) != hashSize {
		return v, nil, "", errWrong
	}
	if path, ok := s.files.find(name, v.Size); ok {
		return v, output, path, nil
	}
	if e == ifThere {
		return v, nil, "", errNoFile
	}
	body, err := v.Open(ctx)
	if err != nil {
		return v, nil, "", err
	}
	defer body.Close()
	path, err = s.files.add(name, v.Size, body)
	return v, output, path, err
}

// put takes an output. The go command goes on as soon as there is a file; an error
// ends the build.
func (s *server) put(ctx context.Context, r request) error {
	began := time.Now()
	body := &body{in: s.in}
	if err := body.begin(r.BodySize); err != nil {
		return err
	}
	output := hex.EncodeToString(r.OutputID)
	path, err := s.files.add(output, r.BodySize, body)
	if err := body.skip(); err != nil {
		return err
	}
	if err != nil {
		return s.answer(response{ID: r.ID, Err: err.Error()})
	}
	if err := s.answer(response{ID: r.ID, DiskPath: path}); err != nil {
		return err
	}
	stats := frontend.Stats{Puts: 1, In: r.BodySize}
	if s.store(ctx, hex.EncodeToString(r.ActionID), output, path, r.BodySize) != nil {
		stats = frontend.Stats{Dropped: 1}
	}
	s.count(began, stats)
	return nil
}

// store keeps an output that is in a file.
func (s *server) store(ctx context.Context, action, output, path string, size int64) error {
	if s.o.Store == nil {
		return errNoStore
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	v := entry.Value{Size: size, Extra: map[string]string{extraOutput: output}}
	const small = 64 << 10
	if size > small {
		v.File = f
		return s.o.Store.Put(ctx, Kind, action, v)
	}
	defer f.Close()
	v.Body = f
	return s.o.Store.Put(ctx, Kind, action, v)
}
