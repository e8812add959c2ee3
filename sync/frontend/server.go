package frontend

import (
	"cmp"
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects/entry"
)

// Options say what is served. Store, Clients and Token are needed.
type Options struct {
	Store   Store
	Clients []Client

	// Token is in the path of each URL: who does not know it gets nothing.
	Token string

	// MaxValue is how many bytes a value may have. A bigger one is accepted, and
	// dropped. Zero is 4 GiB.
	MaxValue int64

	// MaxRequests is how many requests are served at once; others wait. Zero is 128.
	MaxRequests int

	// Spool is a directory for big values on their way, which have no name there.
	// Empty is the system's directory for temporary files.
	Spool string
}

// A Server is an http.Handler. Serve runs it with the time-outs that it needs.
type Server struct {
	o       Options
	clients map[string]*client
	places  chan struct{}
}

// A client is one of the build tools, and how it fared.
type client struct {
	Client
	counts
}

// New returns a server that is not listening yet.
func New(o Options) *Server {
	o.MaxValue = cmp.Or(o.MaxValue, 4<<30)
	o.MaxRequests = cmp.Or(o.MaxRequests, 128)
	o.Spool = cmp.Or(o.Spool, os.TempDir())
	s := &Server{o: o, clients: map[string]*client{}, places: make(chan struct{}, o.MaxRequests)}
	for _, c := range o.Clients {
		s.clients[string(c.Kind)] = &client{Client: c}
	}
	return s
}

// Stats returns how the clients fared so far.
func (s *Server) Stats() map[entry.Kind]Stats {
	all := make(map[entry.Kind]Stats, len(s.clients))
	for _, c := range s.clients {
		all[c.Kind] = c.stats()
	}
	return all
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if subtle.ConstantTimeCompare([]byte(token), []byte(s.o.Token)) != 1 || s.o.Token == "" {
		http.Error(w, "who is this?", http.StatusForbidden)
		return
	}
	kind, rest, _ := strings.Cut(rest, "/")
	c := s.clients[kind]
	if c == nil {
		http.NotFound(w, r)
		return
	}
	name, ok := c.Parse(rest)
	if !ok {
		http.NotFound(w, r)
		return
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-r.Context().Done():
		return
	}
	x := &exchange{s: s, c: c, w: w, r: r, name: name}
	began := time.Now()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		x.get()
	case http.MethodPut:
		x.put()
	case http.MethodDelete:
		x.delete()
	default:
		http.Error(w, "GET, HEAD, PUT or DELETE", http.StatusMethodNotAllowed)
		return
	}
	c.time.Add(int64(time.Since(began)))
}

const (
	// maxHeader is how many bytes the head of a request may have, and headTime how
	// long it may take to come.
	maxHeader = 16 << 10
	headTime  = 10 * time.Second

	// idleTime is how long a connection may wait for another request.
	idleTime = 5 * time.Minute
)

// Serve answers the requests that come in at l until ctx is done; it lets those that
// are running end within grace. It closes l. To be stopped is no error.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          silent,
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if h.Shutdown(stopping) != nil {
		_ = h.Close()
	}
	<-ended
	return nil
}
