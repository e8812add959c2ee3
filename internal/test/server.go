package test

import (
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A Server is a program that serves a test, alone with its children in a group of
// processes.
type Server struct {
	cmd     *exec.Cmd
	exited  chan struct{}
	stopped bool
}

// StartServer starts a program, and waits until it answers; nil if it does not.
func StartServer(tb testing.TB, cmd *exec.Cmd, answers func() bool) *Server {
	tb.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		tb.Error(err)
		return nil
	}
	s := &Server{cmd: cmd, exited: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(s.exited)
	}()
	for range 200 {
		select {
		case <-s.exited:
			return nil
		case <-time.After(50 * time.Millisecond):
		}
		if answers() {
			return s
		}
	}
	s.Stop(syscall.SIGKILL)
	return nil
}

// Stop sends the server a signal and waits for its end. SIGKILL goes to its children,
// too. To stop none, or the same again, does nothing.
func (s *Server) Stop(sig syscall.Signal) {
	if s == nil || s.stopped {
		return
	}
	s.stopped = true
	if sig == syscall.SIGKILL {
		syscall.Kill(-s.cmd.Process.Pid, sig)
	} else {
		syscall.Kill(s.cmd.Process.Pid, sig)
	}
	select {
	case <-s.exited:
	case <-time.After(5 * time.Second):
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.exited
	}
}

// FreePort returns a port of this machine that nobody listens on, for a moment at
// least.
func FreePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
