package ci

import "strings"

// A ref is what a job was started for.
type ref struct {
	branch, tag, request string // one of them
}

// parseRef reads what services write in one variable or another: a name of Git's, in
// full or not.
//
//	refs/heads/NAME   a branch
//	refs/tags/NAME    a tag
//	refs/pull/12/…    a pull request, at GitHub and those that are like it
//	refs/merge-requests/12/…
//	pull/12           one from a fork, at CircleCI
func parseRef(text string) ref {
	if name, ok := strings.CutPrefix(text, "refs/heads/"); ok {
		return ref{branch: name}
	}
	if name, ok := strings.CutPrefix(text, "refs/tags/"); ok {
		return ref{tag: name}
	}
	for _, before := range []string{"refs/pull/", "refs/pull-requests/", "refs/merge-requests/", "pull/"} {
		rest, ok := strings.CutPrefix(text, before)
		number, _, _ := strings.Cut(rest, "/")
		if ok && isNumber(number) {
			return ref{request: number}
		}
	}
	if strings.HasPrefix(text, "refs/") || text == "HEAD" || text == "detached" {
		return ref{}
	}
	return ref{branch: text}
}

// shortBranch returns the name of a branch that may be written in full.
func shortBranch(text string) string { return strings.TrimPrefix(text, "refs/heads/") }

// isNumber reports whether text is the number of a pull request, and not one of the
// words for none.
func isNumber(text string) bool {
	return text != "" && len(text) < 20 && strings.Trim(text, "0123456789") == ""
}

// queued returns the branch that a merge queue of GitHub's is about to move:
// gh-readonly-queue/BASE/pr-12-ID.
func queued(branch string) (base string, ok bool) {
	rest, ok := strings.CutPrefix(branch, "gh-readonly-queue/")
	end := strings.LastIndex(rest, "/pr-")
	if !ok || end < 1 {
		return "", false
	}
	return rest[:end], true
}
