// Package ci knows what CI services say about the job that runs.
//
// The same few facts have other names at each: which branch it is, which pull
// request, and what that is to be merged into. They are read from the environment
// alone, through a function, so nothing here touches a file or the network.
//
// Who may write what follows from them:
//
//	a branch                        NAME        read through the default branch
//	a tag                           tag/NAME    read through the default branch
//	a pull request, of forks, too   pr/NUMBER   read through what it is to be merged into
//	anything else                   a branch of the job's own, which is not to be sent anywhere
//
// So a pull request writes nothing that others read, whatever its source branch is
// called.
package ci

import (
	"cmp"
	"strconv"
	"strings"
)

// A Build is what is known of the job that runs.
type Build struct {
	Provider string // as people call it; empty if no service that we know runs this
	Job, URL string // of its page, as the service says it: it may hold credentials

	Branch  string // that the job writes; empty if nobody knows
	Base    string // that a pull request is to be merged into; empty if there is none
	Default string // the project's default branch; empty if the service does not say so

	Request  string // the number of the pull request; empty if it is none
	Fork     bool   // it is known to come from another repository
	ReadOnly bool   // what the job writes is of no use to others, or not to be trusted
}

// Detect returns what the environment says.
func Detect(getenv func(string) string) Build {
	e := env(getenv)
	for _, p := range providers {
		if p.runs(e) {
			return p.build(e)
		}
	}
	return Build{}
}

// Below returns the branch that lookups try after the job's own; empty for the
// default branch of the repository.
func (b Build) Below() string {
	below := cmp.Or(b.Base, b.Default)
	if below == b.Branch {
		return ""
	}
	return below
}

// An Event is what the environment does not say, and a file of the service may.
type Event struct {
	Request int    // the number of the pull request that it is about
	Default string // the project's default branch
	Fork    bool
}

// Learn adds what is known of the event that started the job. A job that was started
// by a pull request in the name of the branch that it is to be merged into gets the
// pull request's branch, and may write it.
func (b *Build) Learn(e Event) {
	b.Default = cmp.Or(b.Default, e.Default)
	b.Fork = b.Fork || e.Fork && b.Request != ""
	if b.ReadOnly && b.Request == "" && e.Request > 0 {
		b.Request, b.Fork = strconv.Itoa(e.Request), e.Fork
		b.Branch, b.ReadOnly = requestBranch(b.Request), false
	}
}

// MayWrite reports whether the job may send what it made to a branch of that name,
// which somebody chose over the one that belongs to it. A pull request may not: what
// it consists of may be a stranger's, down to the script that chose.
func (b Build) MayWrite(branch string) bool {
	return b.Request == "" || branch == b.Branch || strings.HasPrefix(branch, b.Branch+"/")
}

func requestBranch(number string) string { return "pr/" + number }

// An env is an environment.
type env func(string) string

// first returns the value of the first of these variables that has one.
func (e env) first(names []string) string {
	for _, name := range names {
		if v := e(name); v != "" {
			return v
		}
	}
	return ""
}

// expand puts variables into a text. It is empty if all of them are.
func (e env) expand(text string) string {
	var b strings.Builder
	known := false
	for part := range strings.SplitSeq(text, "$") {
		end := strings.IndexFunc(part, func(r rune) bool { return r != '_' && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
		if end < 0 {
			end = len(part)
		}
		if b.Len() > 0 || strings.HasPrefix(text, "$") {
			value := e(part[:end])
			known = known || value != ""
			b.WriteString(value)
			part = part[end:]
		}
		b.WriteString(part)
	}
	if !known {
		return ""
	}
	return b.String()
}
