package gitpack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cache-tool/cache-tool/internal/durable"
	"github.com/cache-tool/cache-tool/objects"
)

// A Ref is a name and what it points to.
type Ref struct {
	Name string // in full: "refs/heads/main"
	ID   objects.ID
}

// Refs is what an export shows.
type Refs struct {
	Head    string       // the default branch, in full; it need not exist
	All     []Ref        // in any order
	Shallow []objects.ID // commits whose parents are gone
}

func (r Refs) check() error {
	seen := map[string]bool{}
	for _, ref := range r.All {
		if err := checkName(ref.Name); err != nil {
			return err
		}
		if seen[ref.Name] {
			return fmt.Errorf("ref %s: given twice", ref.Name)
		}
		seen[ref.Name] = true
	}
	return checkName(r.Head)
}

// checkName passes the names that Git takes.
func checkName(name string) error {
	bad := !strings.HasPrefix(name, "refs/") ||
		strings.ContainsAny(name, " ~^:?*[\\\x7f") ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".")
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("ref %q: Git takes no such name", name)
	}
	return nil
}

// A MovedError says that a ref of an earlier export points where no export has
// put it: somebody worked in the repository, and their commits would be lost.
type MovedError struct {
	Ref Ref // as it is
	Dir string
}

func (e *MovedError) Error() string {
	return fmt.Sprintf("%s: %s is at %s, where no export has put it", e.Dir, e.Ref.Name, e.Ref.ID.Short())
}

// A refLine is one ref in a file of them, which both the packed-refs of Git and
// the record of exports are: lines "id name".
type refLine struct {
	Ref
	peeled string // of packed-refs: the line "^id" after it, or nothing
}

// parseRefLines reads such a file. Lines that begin with '#' say nothing.
func parseRefLines(data []byte) ([]refLine, error) {
	var lines []refLine
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '^' && len(lines) > 0 {
			if _, err := objects.ParseID(line[1:]); err != nil {
				return nil, fmt.Errorf("peeled ref: %w", err)
			}
			lines[len(lines)-1].peeled = line
			continue
		}
		digits, name, _ := strings.Cut(line, " ")
		id, err := objects.ParseID(digits)
		if err != nil {
			return nil, fmt.Errorf("ref line %q: %w", line, err)
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		lines = append(lines, refLine{Ref: Ref{Name: name, ID: id}})
	}
	return lines, nil
}

// encodeRefLines is the inverse, with head as its first line. Git wants the
// lines in the order of their names.
func encodeRefLines(head string, lines []refLine) []byte {
	slices.SortStableFunc(lines, func(a, b refLine) int { return strings.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	fmt.Fprintln(&b, head)
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %s\n", l.ID, l.Name)
		if l.peeled != "" {
			fmt.Fprintln(&b, l.peeled)
		}
	}
	return b.Bytes()
}

// readRefLines reads the file name; none is an empty one.
func readRefLines(name string) ([]refLine, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines, err := parseRefLines(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return lines, nil
}

const (
	packedHead = "# pack-refs with: sorted"
	recordHead = "# cache-tool export 1: the refs as the last export put them"
)

// A refUpdate moves the refs of an export, in this order, so that a crash in
// the middle leaves refs that the next export knows for its own:
//
//	record       gets the new refs beside the old
//	packed-refs  is replaced: this moves them all at once
//	refs/…       loose ones, which outrank packed ones, are removed
//	record       holds only the new
type refUpdate struct {
	git    string // the .git directory
	record []refLine
	packed []refLine
	want   []Ref

	loose   []string // names
	changes int      // how many refs move, come or go
}

// planRefs reads how refs stand and checks that all who would move are where an
// export put them.
func planRefs(git string, want []Ref) (*refUpdate, error) {
	u := &refUpdate{git: git, want: want}
	var err error
	if u.record, err = readRefLines(filepath.Join(git, recordName)); err != nil {
		return nil, err
	}
	if u.packed, err = readRefLines(filepath.Join(git, "packed-refs")); err != nil {
		return nil, err
	}
	ours := map[Ref]bool{}            // where a ref may be
	next := map[string]objects.ID{}   // where it shall be; zero: nowhere
	packed := map[string]objects.ID{} // where it is, unless it is loose
	for _, l := range u.record {
		ours[l.Ref], next[l.Name] = true, objects.ID{}
	}
	for _, r := range want {
		ours[r], next[r.Name] = true, r.ID
	}
	for _, l := range u.packed {
		packed[l.Name] = l.ID
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		at, loose, err := readLoose(git, name)
		if err != nil {
			return nil, err
		}
		if loose {
			u.loose = append(u.loose, name)
		} else {
			at = packed[name]
		}
		if ref := (Ref{Name: name, ID: at}); (loose || !at.IsZero()) && !ours[ref] {
			return nil, &MovedError{Ref: ref, Dir: filepath.Dir(git)}
		}
		if at != next[name] {
			u.changes++
		}
	}
	return u, nil
}

// readLoose reads a ref that has a file of its own. A symbolic one has no id;
// no export makes those.
func readLoose(git, name string) (id objects.ID, ok bool, err error) {
	data, err := os.ReadFile(filepath.Join(git, filepath.FromSlash(name)))
	switch {
	case err == nil:
		id, _ = objects.ParseID(strings.TrimSpace(string(data)))
		return id, true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return id, false, nil
	}
	return id, false, err
}

func (u *refUpdate) apply() error {
	var next []refLine
	for _, r := range u.want {
		next = append(next, refLine{Ref: r})
	}
	write := func(name, head string, lines []refLine) error {
		return durable.WriteFile(filepath.Join(u.git, name), encodeRefLines(head, lines), durable.Synced)
	}
	if err := write(recordName, recordHead, slices.Concat(u.record, next)); err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, l := range slices.Concat(u.record, next) {
		recorded[l.Name] = true
	}
	packed := slices.DeleteFunc(u.packed, func(l refLine) bool { return recorded[l.Name] })
	if err := write("packed-refs", packedHead, append(packed, next...)); err != nil {
		return err
	}
	for _, name := range u.loose {
		name = filepath.Join(u.git, filepath.FromSlash(name))
		if err := durable.Remove(name); err != nil {
			return err
		}
		// Gone for good before the record forgets where it pointed: one that
		// came back after a power cut would be nobody's.
		if err := durable.SyncDir(filepath.Dir(name)); err != nil {
			return err
		}
	}
	return write(recordName, recordHead, next)
}
