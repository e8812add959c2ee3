package repo

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/repo/ci"
)

// Provenance says where an entry comes from. Commits carry it as trailers.
type Provenance struct {
	Host, User   string
	CIJob, CIURL string // empty outside CI; the URL without credentials
	Source       Source
}

// Source is the commit of the enclosing Git work tree. It is zero where there
// is none, or none that can be read.
type Source struct {
	Root   string // the work tree's top directory
	Commit string // hexadecimal, in the source repository's own format
	Branch string // empty with a detached HEAD
}

// ReadProvenance gathers what is known of the work being done in dir.
func ReadProvenance(dir string) Provenance {
	p := Provenance{User: account(), Source: ReadSource(dir)}
	p.Host, _ = os.Hostname()
	build := ci.Detect(os.Getenv)
	p.CIJob, p.CIURL = build.Job, stripCredentials(build.URL)
	return p
}

func stripCredentials(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

// Trailers returns the lines that a commit message ends in, those that are known.
func (p Provenance) Trailers() string {
	var b strings.Builder
	for _, t := range [][2]string{
		{"Host", p.Host}, {"User", p.User},
		{"CI-Job", p.CIJob}, {"CI-URL", p.CIURL},
		{"Source-Commit", p.Source.Commit}, {"Source-Branch", p.Source.Branch},
	} {
		if t[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", t[0], strings.ReplaceAll(t[1], "\n", " "))
		}
	}
	return b.String()
}

// SourceDefault returns the branch that the repository which the work tree in dir was
// cloned from has as its default one; empty if that is not known here.
func SourceDefault(dir string) string {
	_, gitDir := findGit(dir)
	if gitDir == "" {
		return ""
	}
	head := readLine(filepath.Join(commonDir(gitDir), "refs", "remotes", "origin", "HEAD"))
	if name, ok := strings.CutPrefix(head, "ref: refs/remotes/origin/"); ok {
		return name
	}
	return ""
}

// ReadSource finds the Git work tree that holds dir and reads its HEAD. It reads
// a few small files and no object. What it can't read (reftable, a broken
// repository) it leaves empty: provenance is never worth an error.
//
// It does without go-git, whose tables cost every start of the command 0.2 ms.
func ReadSource(dir string) Source {
	root, gitDir := findGit(dir)
	if gitDir == "" {
		return Source{}
	}
	s := Source{Root: root}
	head := readLine(filepath.Join(gitDir, "HEAD"))
	target, symbolic := strings.CutPrefix(head, "ref: ")
	switch {
	case !symbolic:
		s.Commit = commitID(head)
	case target != "refs/heads/.invalid": // which says that the refs are elsewhere
		s.Branch = strings.TrimPrefix(target, "refs/heads/")
		s.Commit = readRef(commonDir(gitDir), target)
	}
	return s
}

// readRef returns the commit that a branch of a Git repository points to, or
// nothing if it has none.
func readRef(gitDir, name string) string {
	if id := commitID(readLine(filepath.Join(gitDir, filepath.FromSlash(name)))); id != "" {
		return id
	}
	packed, _ := os.ReadFile(filepath.Join(gitDir, "packed-refs"))
	for line := range strings.Lines(string(packed)) {
		if id, ref, ok := strings.Cut(strings.TrimSpace(line), " "); ok && ref == name {
			return commitID(id)
		}
	}
	return ""
}

// readLine returns the text of a file of one line.
func readLine(name string) string {
	text, _ := os.ReadFile(name)
	return strings.TrimSpace(string(text))
}

// commitID returns s if it is an id of Git's, of either object format.
func commitID(s string) string {
	if _, err := hex.DecodeString(s); err != nil || len(s) != 40 && len(s) != 64 {
		return ""
	}
	return s
}

// findGit returns the nearest directory upwards that has a .git, and what that
// .git is: the repository itself, or a file that names it (worktrees, submodules).
func findGit(dir string) (root, gitDir string) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", ""
	}
	for {
		git := filepath.Join(dir, ".git")
		if fi, err := os.Stat(git); err == nil {
			if fi.IsDir() {
				return dir, git
			}
			text, _ := os.ReadFile(git)
			if name, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: "); ok {
				return dir, resolve(dir, name)
			}
			return "", ""
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", ""
		}
		dir = parent
	}
}

// commonDir is where a linked worktree keeps its branches: gitDir itself in an
// ordinary repository.
func commonDir(gitDir string) string {
	text, err := os.ReadFile(filepath.Join(gitDir, "commondir"))
	if err != nil {
		return gitDir
	}
	return resolve(gitDir, strings.TrimSpace(string(text)))
}

func resolve(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// Identity is who commits are made by: user.name and user.email, else the
// account and the host.
func (r *Repo) Identity() objects.Signature { return r.identity(time.Now()) }

func (r *Repo) identity(when time.Time) objects.Signature {
	who := objects.Signature{Name: r.Config.get("user.name"), Email: r.Config.get("user.email"), When: when}
	if who.Name == "" {
		who.Name = account()
	}
	if who.Email == "" {
		host, _ := os.Hostname()
		who.Email = account() + "@" + host
	}
	return who
}

// account returns the name of the account, from the environment if it says so:
// a look-up in the user database costs more than everything else here.
func account() string {
	for _, name := range []string{"USER", "LOGNAME"} {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}
