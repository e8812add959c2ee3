package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxHeader is how many bytes the head of a request may have, and headTime how
	// long it may take to come.
	maxHeader = 16 << 10
	headTime  = 10 * time.Second

	// idleTime is how long a connection may wait for another request.
	idleTime = 2 * time.Minute

	// connections is how many there may be for each request that may be served.
	connections = 8
)

// errStopping is why requests end that went on for longer than Options.Grace.
var errStopping = errors.New("the server is being stopped")

// Serve answers the requests that come in at l until ctx is done: encrypted if
// config is not nil. Then it takes no more, and lets those that are running end,
// within Options.Grace. It closes l. The error is about listening; to be stopped
// is none.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	running, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	h := &http.Server{
		Handler:           s,
		TLSConfig:         config,
		ReadHeaderTimeout: min(headTime, s.o.Patience),
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: max(8, s.o.MaxRequests)},
		BaseContext:       func(net.Listener) context.Context { return running },
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug), // what strangers do wrong
	}
	l = newLimited(l, connections*s.o.MaxRequests)
	ended := make(chan error, 1)
	go func() {
		if config != nil {
			ended <- h.ServeTLS(l, "", "")
		} else {
			ended <- h.Serve(l)
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.stop(h, abort)
	<-ended
	return nil
}

func (s *Server) stop(h *http.Server, abort context.CancelCauseFunc) {
	s.stopping.Store(true)
	s.o.Log.Info("stopping", "grace", s.o.Grace)
	grace, cancel := context.WithTimeout(context.Background(), s.o.Grace)
	defer cancel()
	if h.Shutdown(grace) == nil {
		return
	}
	s.o.Log.Warn("requests are still running, and are broken off")
	abort(errStopping)
	// They need a moment to find out.
	moment, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = h.Shutdown(moment)
	_ = h.Close()
}

// A limited listener has only so many connections at once. More wait in the
// system's queue.
type limited struct {
	net.Listener
	places chan struct{}
	once   sync.Once
	closed chan struct{}
}

func newLimited(l net.Listener, most int) *limited {
	return &limited{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
