package ci

import (
	"cmp"
	"slices"
	"strings"
)

// build reads the facts in the names of a service.
func (p provider) build(e env) Build {
	b := Build{Provider: p.name, Job: strings.Trim(e.expand(p.job), "/"), URL: e.expand(p.url), Default: shortBranch(e.first(p.primary))}
	r := parseRef(strings.TrimPrefix(e.first(p.branch), p.remote))
	request := e.first(p.request)
	if !isNumber(request) {
		request = r.request
	}
	switch {
	case request != "":
		b.Request, b.Branch, b.Base = request, requestBranch(request), shortBranch(e.first(p.target))
		b.Fork = p.fork != nil && p.fork(e)
	case p.isBorrowed(e):
		b.Base = cmp.Or(shortBranch(e.first(p.target)), r.branch)
		b.Branch, b.ReadOnly = p.ownBranch(e), true
	case e.first(p.tag) != "":
		b.Branch = "tag/" + e.first(p.tag)
	case r.tag != "":
		b.Branch = "tag/" + r.tag
	default:
		b.Branch = r.branch
	}
	if base, ok := queued(b.Branch); ok {
		b.Base, b.ReadOnly = base, true // nobody will read it: the branch is gone after the job
	}
	return b
}

// isBorrowed reports whether a job runs what a stranger wrote, or may have, and does
// so in the name of a branch that others read.
func (p provider) isBorrowed(e env) bool {
	return e.first(p.source) != "" || slices.Contains(p.borrowed, e("GITHUB_EVENT_NAME"))
}

// ownBranch is one that no other job reads.
func (p provider) ownBranch(e env) string { return "pr/run-" + cmp.Or(e(p.run), "unknown") }
