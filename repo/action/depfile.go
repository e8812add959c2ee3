package action

import (
	"errors"
	"fmt"
)

// ErrBadDepfile is what every error of ParseDepfile is.
var ErrBadDepfile = errors.New("malformed depfile")

// ParseDepfile returns the prerequisites of all rules in text, each once, in the
// order in which they appear. The format is what gcc -MD, clang and rustc write,
// the part of make's that is agreed upon:
//
//	target … : prerequisite … \
//	  prerequisite …
//	prerequisite:            (-MP: a rule without prerequisites)
//	# a comment
//
// A backslash before a newline goes on with the line, one before a space, a tab
// or '#' makes that a part of the name, "$$" is a dollar. A run of backslashes
// before a space counts twofold, as gcc writes it; any other backslash stands
// for itself. A colon ends the targets only before white space, so that
// "c:\a.h" is one name.
func ParseDepfile(text []byte) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	l := depLexer{text: text}
	for {
		word, kind := l.next()
		switch {
		case kind == depEnd && l.inTargets && l.words > 0:
			return nil, fmt.Errorf("%w: line %d: a rule without a colon", ErrBadDepfile, l.line+1)
		case kind == depEnd:
			return names, nil
		case kind == depBare:
			return nil, fmt.Errorf("%w: line %d: a rule without a colon", ErrBadDepfile, l.line)
		case kind == depPrerequisite && !seen[word]:
			seen[word] = true
			names = append(names, word)
		}
	}
}

type depKind uint8

const (
	depEnd depKind = iota
	depTarget
	depPrerequisite
	depBare // a line that ended before its colon
)

type depLexer struct {
	text      []byte
	pos       int
	line      int // newlines passed
	words     int // of the rule being read
	inRule    bool
	inTargets bool
}

// next returns the next word and what it is.
func (l *depLexer) next() (string, depKind) {
	for {
		if !l.inRule {
			l.inRule, l.inTargets, l.words = true, true, 0
		}
		if done, bare := l.skipSpace(); bare {
			return "", depBare
		} else if done {
			return "", depEnd
		} else if !l.inRule {
			continue
		}
		if l.text[l.pos] == ':' && l.inTargets && l.atColon() {
			l.pos++
			l.inTargets = false
			continue
		}
		word := l.word()
		l.words++
		if l.inTargets {
			return word, depTarget
		}
		return word, depPrerequisite
	}
}

// skipSpace goes to the next word. A newline ends the rule, unless nothing of
// it was read yet.
func (l *depLexer) skipSpace() (done, bare bool) {
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == ' ' || c == '\t' || c == '\r':
			l.pos++
		case c == '\\' && l.newlineAt(l.pos+1) > 0:
			l.pos += 1 + l.newlineAt(l.pos+1)
			l.line++
		case c == '\n':
			l.pos++
			l.line++
			if l.inTargets && l.words > 0 {
				return false, true
			}
			l.inRule = false
			return false, false
		case c == '#':
			for l.pos < len(l.text) && l.text[l.pos] != '\n' {
				l.pos++
			}
		default:
			return false, false
		}
	}
	return true, false
}

// newlineAt returns the length of the newline at i, 0 if there is none.
func (l *depLexer) newlineAt(i int) int {
	switch {
	case i < len(l.text) && l.text[i] == '\n':
		return 1
	case i+1 < len(l.text) && l.text[i] == '\r' && l.text[i+1] == '\n':
		return 2
	}
	return 0
}

// atColon reports whether the colon at pos ends the targets.
func (l *depLexer) atColon() bool {
	if l.pos+1 == len(l.text) {
		return true
	}
	switch l.text[l.pos+1] {
	case ' ', '\t', '\r', '\n':
		return true
	case '\\':
		return l.newlineAt(l.pos+2) > 0
	}
	return false
}

func (l *depLexer) word() string {
	var word []byte
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' && l.newlineAt(l.pos) > 0:
			return string(word)
		case c == ':' && l.inTargets && l.atColon():
			return string(word)
		case c == '\\':
			var ended bool
			if word, ended = l.backslashes(word); ended {
				return string(word)
			}
		case c == '$' && l.pos+1 < len(l.text) && l.text[l.pos+1] == '$':
			word = append(word, '$')
			l.pos += 2
		default:
			word = append(word, c)
			l.pos++
		}
	}
	return string(word)
}

// backslashes adds to word what the run of backslashes at pos stands for, and
// reports whether the word ends there.
func (l *depLexer) backslashes(word []byte) (_ []byte, ended bool) {
	n := 1
	for l.pos+n < len(l.text) && l.text[l.pos+n] == '\\' {
		n++
	}
	run, next := l.text[l.pos:l.pos+n], byte(0)
	if l.pos+n < len(l.text) {
		next = l.text[l.pos+n]
	}
	switch {
	case (next == ' ' || next == '\t') && n%2 == 0:
		l.pos += n
		return append(word, run[:n/2]...), true
	case next == ' ' || next == '\t':
		l.pos += n + 1
		return append(append(word, run[:n/2]...), next), false
	case l.newlineAt(l.pos+n) > 0: // the last one goes on with the line
		l.pos += n - 1
		return append(word, run[:n-1]...), true
	case next == '#':
		l.pos += n + 1
		return append(append(word, run[:n-1]...), next), false
	}
	l.pos += n
	return append(word, run...), false
}
