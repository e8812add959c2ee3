package main

import (
	"strings"

	"github.com/cache-tool/cache-tool/commands/run"
	"github.com/cache-tool/cache-tool/refs"
)

// A line is a command line of run that this program understands.
type line struct {
	run.Line
	repo, branch string
	verbose      bool
}

// parse reads a line as the full program would. Of what is not plainly a run, or not
// plainly right, it says false.
func parse(args []string) (l line, ok bool) {
	verb := false
	for len(args) > 0 {
		word := args[0]
		switch {
		case word == "--" && verb:
			l.Args = args[1:]
			return l, l.fits()
		case !strings.HasPrefix(word, "-") && verb:
			l.Args = args
			return l, l.fits()
		case word == "run":
			verb, args = true, args[1:]
			continue
		case word == "-q" || word == "-v":
			l.verbose = l.verbose || word == "-v"
			args = args[1:]
			continue
		case !strings.HasPrefix(word, "--"):
			return l, false
		}
		name, value, hasValue := strings.Cut(word[2:], "=")
		args = args[1:]
		if l.flag(name, verb) && !hasValue {
			continue
		}
		if !hasValue {
			if len(args) == 0 {
				return l, false
			}
			value, args = args[0], args[1:]
		}
		if !l.value(name, value, verb) {
			return l, false
		}
	}
	return l, false
}

// flag takes a flag without a value.
func (l *line) flag(name string, verb bool) bool {
	switch {
	case name == "verbose":
		l.verbose = true
	case name == "quiet" || name == "no-progress": // run prints nothing that they would silence
	case name == "stdin" && verb:
		l.Stdin = true
	case name == "cache-failures" && verb:
		l.CacheFailures = true
	default:
		return false
	}
	return true
}

// value takes a flag with its value.
func (l *line) value(name, value string, verb bool) bool {
	switch name {
	case "repo":
		l.repo = value
		return true
	case "branch":
		l.branch = value
		return true
	}
	if !verb {
		return false
	}
	switch name {
	case "in":
		l.In = append(l.In, value)
	case "out":
		l.Out = append(l.Out, value)
	case "env":
		l.Env = append(l.Env, value)
	case "depfile":
		l.Depfile = value
	case "salt":
		l.Salt = value
	case "base":
		l.Base = value
	default:
		return false
	}
	return true
}

// fits reports whether there is a command, and a branch that may be called so.
func (l *line) fits() bool {
	return len(l.Args) > 0 && (l.branch == "" || refs.Branch(l.branch).Check() == nil)
}
