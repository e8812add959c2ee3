package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/refs"
)

// Rules say which refs somebody may read, and which he may move. What may be
// moved may be read. A rule is one of
//
//	GLOB       branches: "main", "pr/*"
//	tag:GLOB   tags: "tag:v*"
//	*          everything
//
// In a GLOB each "*" stands for any characters, slashes too, as in a refspec of
// Git. The zero Rules allow nothing.
type Rules struct {
	Read, Write []string
}

// Everything is the rule for all refs there are.
const Everything = "*"

const tagRule = "tag:" // no branch is called so: names hold no colon

// CheckRule refuses what is no rule, and what could never match.
func CheckRule(rule string) error {
	glob, isTag := strings.CutPrefix(rule, tagRule)
	name := refs.Branch(strings.ReplaceAll(glob, "*", "x"))
	if isTag {
		name = refs.Tag(strings.ReplaceAll(glob, "*", "x"))
	}
	if strings.HasPrefix(glob, "refs/") {
		return fmt.Errorf("rule %q: want the name of a branch without refs/heads/, tag:NAME, or *", rule)
	}
	if err := name.Check(); err != nil {
		return fmt.Errorf("rule %q: %w", rule, err)
	}
	return nil
}

// Reads reports whether the ref may be read.
func (r Rules) Reads(name refs.Name) bool { return allow(r.Read, name) || allow(r.Write, name) }

// Writes reports whether the ref may be made, moved and deleted.
func (r Rules) Writes(name refs.Name) bool { return allow(r.Write, name) }

// ReadsAll reports whether all refs may be read, those to come as well.
func (r Rules) ReadsAll() bool {
	return slices.Contains(r.Read, Everything) || slices.Contains(r.Write, Everything)
}

// IsZero reports whether r allows nothing.
func (r Rules) IsZero() bool { return len(r.Read) == 0 && len(r.Write) == 0 }

func allow(rules []string, name refs.Name) bool {
	return slices.ContainsFunc(rules, func(rule string) bool {
		if rule == Everything {
			return true
		}
		if glob, ok := strings.CutPrefix(rule, tagRule); ok {
			return name.IsTag() && match(glob, name.Short())
		}
		return name.IsBranch() && match(rule, name.Short())
	})
}

// match reports whether s is what glob says. It takes len(glob)·len(s) steps at
// most: the last "*" takes as little as it can, and more when what follows does
// not fit.
func match(glob, s string) bool {
	star, from := -1, 0 // the last "*", and where in s what follows it was tried
	g, i := 0, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, from = g, i
			g++
		case g < len(glob) && glob[g] == s[i]:
			g++
			i++
		case star >= 0:
			from++
			g, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
