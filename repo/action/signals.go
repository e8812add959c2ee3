package action

import (
	"context"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// forward passes signals on to the command until stop is closed, and reports
// whether there was one.
func forward(ctx context.Context, p *os.Process, signals <-chan os.Signal, stop <-chan struct{}) (any bool) {
	done := ctx.Done()
	if signals != nil {
		done = nil // whoever listens to signals cancels ctx by them, too
	}
	for {
		select {
		case <-stop:
			return any
		case <-done:
			done, any = nil, true
			_ = p.Signal(syscall.SIGTERM)
		case s := <-signals:
			any = any || endsCommands(s)
			if !typed(s) {
				_ = p.Signal(s)
			}
		}
	}
}

func endsCommands(s os.Signal) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}

// typed reports whether s came from the keyboard: then the terminal has sent it
// to the command as well, and a second one would tell it to hurry.
func typed(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(tty)
	foreground, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
