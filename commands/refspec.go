package commands

import (
	"fmt"
	"strings"

	"github.com/cache-tool/cache-tool/refs"
)

// A refspec says which ref goes where, as in Git: "+src:dst". The plus moves a ref
// though what it pointed to would be lost; without a colon the two are the same;
// ":dst" deletes. With a star on both sides it stands for many.
type refspec struct {
	force    bool
	src, dst string
}

// parseRefspec reads a refspec. Names without "refs/" are those of branches.
func parseRefspec(text string) (refspec, error) {
	rest, force := strings.CutPrefix(text, "+")
	src, dst, two := strings.Cut(rest, ":")
	if !two {
		dst = src
	}
	spec := refspec{force: force, src: fullName(src), dst: fullName(dst)}
	switch {
	case spec.dst == "":
		return spec, usagef("refspec %q names nothing to write to", text)
	case dst == "HEAD":
		return spec, usagef("refspec %q: HEAD is no branch", text)
	case strings.Count(spec.src, "*") > 1 || strings.Count(spec.dst, "*") > 1 || spec.src != "" && strings.Contains(spec.src, "*") != strings.Contains(spec.dst, "*"):
		return spec, usagef("refspec %q: want one star on either side, or none", text)
	}
	for _, name := range []string{spec.src, spec.dst} {
		if name == "" {
			continue
		}
		if err := refs.Name(strings.Replace(name, "*", "x", 1)).Check(); err != nil {
			return spec, &usageError{text: fmt.Sprintf("refspec %q: %v", text, err)}
		}
	}
	return spec, nil
}

func fullName(short string) string {
	if short == "" || strings.HasPrefix(short, "refs/") {
		return short
	}
	return string(refs.Branch(short))
}

// parseRefspecs reads several.
func parseRefspecs(texts []string) ([]refspec, error) {
	var specs []refspec
	for _, text := range texts {
		spec, err := parseRefspec(text)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// target returns where a source goes, if the refspec is about it.
func (r refspec) target(src refs.Name) (refs.Name, bool) {
	return translate(r.src, r.dst, src)
}

// source is the inverse of target.
func (r refspec) source(dst refs.Name) (refs.Name, bool) {
	return translate(r.dst, r.src, dst)
}

func translate(from, to string, name refs.Name) (refs.Name, bool) {
	before, after, many := strings.Cut(from, "*")
	if !many {
		return refs.Name(to), string(name) == from
	}
	middle, ok := strings.CutPrefix(string(name), before)
	if !ok {
		return "", false
	}
	if middle, ok = strings.CutSuffix(middle, after); !ok || middle == "" {
		return "", false
	}
	return refs.Name(strings.Replace(to, "*", middle, 1)), true
}
