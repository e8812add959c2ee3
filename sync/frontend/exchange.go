package frontend

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
)

// silent drops what net/http says of connections that break.
var silent = log.New(io.Discard, "", 0)

// An exchange is one request and its answer.
type exchange struct {
	s    *Server
	c    *client
	w    http.ResponseWriter
	r    *http.Request
	name Name
}

// inMemory is up to how many bytes of a value are held in memory.
const inMemory = 256 << 10

var buffers = sync.Pool{New: func() any { return new([inMemory]byte) }}

func (x *exchange) get() {
	v, err := x.s.o.Store.Get(x.r.Context(), x.c.Kind, x.name.Key)
	if err != nil {
		x.miss()
		return
	}
	if x.r.Method == http.MethodHead {
		x.head(v.Size)
		return
	}
	body, err := v.Open(x.r.Context())
	if err != nil {
		x.miss()
		return
	}
	defer body.Close()
	if v.Size > inMemory {
		x.sendBig(body, v.Size)
		return
	}
	buffer := buffers.Get().(*[inMemory]byte)
	defer buffers.Put(buffer)
	content := buffer[:v.Size]
	if _, err := io.ReadFull(body, content); err != nil || !ended(body) || !x.proves(content) {
		x.miss()
		return
	}
	x.head(v.Size)
	n, _ := x.w.Write(content)
	x.c.hit(int64(n))
}

// ended reports whether body has come to its end, and is proven thereby.
func ended(body io.Reader) bool {
	var more [1]byte
	_, err := io.ReadFull(body, more[:])
	return err == io.EOF
}

// proves reports whether content is what its name says, if it says that.
func (x *exchange) proves(content []byte) bool {
	if x.name.SHA256 == "" {
		return true
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]) == x.name.SHA256
}

// sendBig sends a value that does not fit into memory: not before it is proven.
func (x *exchange) sendBig(body io.Reader, size int64) {
	f, err := unnamedFile(x.s.o.Spool)
	if err != nil {
		x.miss()
		return
	}
	defer f.Close()
	if x.name.SHA256 != "" {
		body = newProof(body, x.name.SHA256)
	}
	if n, err := io.Copy(f, body); err != nil || n != size {
		x.miss()
		return
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		x.miss()
		return
	}
	x.patience(size)
	x.head(size)
	n, _ := io.Copy(x.w, f)
	x.c.hit(n)
}

// patience gives the client time for a value of that size.
func (x *exchange) patience(size int64) {
	const least, perSecond = time.Minute, 1 << 20
	until := time.Now().Add(least + time.Duration(max(0, size)/perSecond)*time.Second)
	rc := http.NewResponseController(x.w)
	_ = rc.SetReadDeadline(until)
	_ = rc.SetWriteDeadline(until)
}

func (x *exchange) head(size int64) {
	h := x.w.Header()
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	if x.c.ContentType != "" {
		h["Content-Type"] = []string{x.c.ContentType}
	} else {
		h["Content-Type"] = binary
	}
	x.w.WriteHeader(http.StatusOK)
}

var binary = []string{"application/octet-stream"}

func (x *exchange) miss() {
	if x.r.Method == http.MethodGet {
		x.c.misses.Add(1)
	}
	x.w.Header()["Content-Length"] = []string{"0"}
	x.w.WriteHeader(http.StatusNotFound)
}

// errWrong says that a value is not what its name says.
var errWrong = errors.New("the value does not hash to its name")

func (x *exchange) put() {
	size := x.r.ContentLength
	x.patience(size)
	if size > x.s.o.MaxValue {
		x.drop(nil)
		return
	}
	counted := &counter{r: http.MaxBytesReader(x.w, x.r.Body, x.s.o.MaxValue)}
	var body io.Reader = counted
	if x.name.SHA256 != "" {
		body = newProof(body, x.name.SHA256)
	}
	v := entry.Value{Size: size, Body: body}
	if x.c.IsLatest != nil {
		buffered := bufio.NewReaderSize(body, headSize)
		head, _ := buffered.Peek(headSize)
		v.Latest, v.Body = x.c.IsLatest(head), buffered
	}
	err := x.s.o.Store.Put(x.r.Context(), x.c.Kind, x.name.Key, v)
	switch {
	case errors.Is(err, errWrong):
		x.c.dropped.Add(1)
		http.Error(x.w, err.Error(), http.StatusBadRequest)
	case err != nil:
		x.drop(err)
	default:
		x.c.put(counted.n)
		x.w.Header()["Content-Length"] = []string{"0"}
		x.w.WriteHeader(http.StatusOK)
	}
}

// drop accepts a value that is not kept: to the build it makes no difference.
func (x *exchange) drop(error) {
	_, _ = io.Copy(io.Discard, x.r.Body)
	x.c.dropped.Add(1)
	x.w.WriteHeader(http.StatusOK)
}

func (x *exchange) delete() {
	if x.s.o.Store.Delete(x.r.Context(), x.c.Kind, x.name.Key) != nil {
		x.c.dropped.Add(1)
	}
	x.w.WriteHeader(http.StatusNoContent)
}

// A counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// A proof reads on, and fails at the end if what it read has another hash.
type proof struct {
	r    io.Reader
	sum  hash.Hash
	want string
}

func newProof(r io.Reader, want string) *proof { return &proof{r, sha256.New(), want} }

func (p *proof) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.sum.Write(b[:n])
	if err == io.EOF && hex.EncodeToString(p.sum.Sum(nil)) != p.want {
		err = errWrong
	}
	return n, err
}

// unnamedFile makes a temporary file that is gone as soon as it is closed, however
// the process ends.
func unnamedFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "cache-tool")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return f, nil
}
