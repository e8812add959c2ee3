package entry_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cache-tool/cache-tool/internal/test"
	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/entry"
)

func TestEscapeName(t *testing.T) {
	const f, l = objects.ModeFile, objects.ModeSymlink
	for _, tt := range []struct {
		mode       objects.Mode
		name, want string
	}{
		{f, "a", "a"},
		{f, "%", "%"},
		{f, ".git", ".git%"},
		{f, ".git%", ".git%%"},
		{f, ".git%%%", ".git%%%%"},
		{f, ".gitx", ".gitx"},
		{f, ".gitkeep", ".gitkeep"},
		{f, ".github", ".github"},
		{f, "git", "git"},
		{f, ".gi", ".gi"},
		{f, ".Git", ".Git%"},
		{f, "GIT~1", "GIT~1%"},
		{f, "git~2", "git~2"},
		{f, ".git .", ".git% ."},
		{f, ".git% .", ".git%% ."},
		{f, ".git:x", ".git%:x"},
		{f, `a\.git`, `a\.git%`},
		{f, `a\.git\b`, `a\.git%\b`},
		{f, ".g\u200cit", ".g\u200cit%"},
		{f, ".git\u200c", ".git%\u200c"},
		{f, "\ufeff.git", "\ufeff.git%"},
		{f, ".git\xff", ".git%\xff"},
		{f, ".gitmodules", ".gitmodules%"},
		{f, ".gitattributes", ".gitattributes%"},
		{f, "GI7EBA~1", "GI7EBA~1%"},
		{f, "gitmod~4", "gitmod~4%"},
		{f, "gitmod~5", "gitmod~5"},
		{f, ".gitignore", ".gitignore"},
		{l, ".gitignore", ".gitignore%"},
		{f, ".gitignore%", ".gitignore%%"},
		{l, ".mailmap", ".mailmap%"},
		{0, ".mailmap", ".mailmap"},
		{l, "MABA30~1", "MABA30~1%"},
	} {
		got := entry.EscapeName(tt.name, tt.mode)
		if got != tt.want {
			t.Errorf("EscapeName(%q, %o) = %q, want %q", tt.name, tt.mode, got, tt.want)
		}
		if back := entry.UnescapeName(got); back != tt.name {
			t.Errorf("UnescapeName(%q) = %q, want %q", got, back, tt.name)
		}
	}
}

// hardNames makes names that Git may mind: its own, in all disguises, and near
// misses.
func hardNames() []string {
	cores := []string{
		".git", ".GIT", ".gIt", "git~1", "GIT~1", "git~2", ".gitmodules", ".gitattributes", ".gitignore", ".mailmap",
		".GitModules", "gitmod~1", "gitmod~5", "gitatt~4", "gitign~2", "mailma~1", "gi7eba~1", "gi7eb~12", "gi7e~123", "g~123456",
		"gi7d29~9", "gi250a~1", "MABA30~1", "maba30~0", "maba~012", ".gi", "git", ".gitx", "mailmap", "gi7ebax1",
	}
	ignored := []string{"\u200c", "\u200d", "\u200e", "\u200f", "\u202a", "\u202e", "\u206a", "\u206f", "\ufeff"}
	near := []string{"\u200b", "\u2010", "\u2029", "\u202f", "\u2069", "\u2070", "\ufffe", "\uffff", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xe2\x80", "\U0010ffff", "\xf4\x90\x80\x80"}
	var names []string
	for _, core := range cores {
		for _, tail := range slices.Concat([]string{"", " ", ".", " . .", ":", ":x", " :x", `\`, `\x`, " \\x", "%", "%%", "%x", "% ", "%:", "x", "/", "~1"}, ignored, near) {
			if strings.Contains(tail, "/") {
				continue
			}
			names = append(names, core+tail, core+tail+"x", core+tail+" ", `x\`+core+tail, `x\y\`+core+tail+`\z`, core+`\`+core+tail, core+":"+core+tail)
		}
		for _, odd := range slices.Concat(ignored, near, []string{" ", "%"}) {
			names = append(names, odd+core, core[:2]+odd+core[2:], core+odd+odd, odd+core[:1]+odd+core[1:]+odd)
		}
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	parts := slices.Concat(cores, ignored, near, []string{".", " ", ":", `\`, "%", "g", "i", "t", ".g", "it"})
	for range 3000 {
		var name string
		for range 1 + rnd.IntN(5) {
			name += parts[rnd.IntN(len(parts))]
		}
		names = append(names, name)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return objects.CheckName(n) != nil })
	slices.Sort(names)
	return slices.Compact(names)
}

func TestEscapedNamesComeBack(t *testing.T) {
	for _, mode := range []objects.Mode{objects.ModeFile, objects.ModeSymlink} {
		escaped := map[string]string{}
		for _, name := range hardNames() {
			e := entry.EscapeName(name, mode)
			if before, ok := escaped[e]; ok {
				t.Errorf("%q and %q are both escaped as %q", before, name, e)
			}
			escaped[e] = name
			if got := entry.UnescapeName(e); got != name {
				t.Errorf("%q comes back from %q as %q", name, e, got)
			}
		}
	}
}

func FuzzEscapeName(f *testing.F) {
	for _, name := range []string{".git", ".git%", "git~1:x", ".gitignore\\.git", "\u200c.git\xff", "gi7eba~1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, mode := range []objects.Mode{objects.ModeFile, objects.ModeSymlink} {
			if got := entry.UnescapeName(entry.EscapeName(name, mode)); got != name {
				t.Errorf("%q comes back as %q", name, got)
			}
		}
	})
}

// git runs Git in dir.
func git(t *testing.T, dir string, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func mustGit(t *testing.T, dir string, stdin string, args ...string) string {
	t.Helper()
	out, err := git(t, dir, stdin, args...)
	if err != nil {
		t.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(out)
}

// Git has nothing against escaped names, as files, directories or symlinks:
// fsck --strict does not even print a line, and checkout writes them all.
func TestGitTakesEscapedNames(t *testing.T) {
	dir := t.TempDir()
	if out, err := git(t, dir, "", "init", "-q", "-b", "main", "--object-format=sha256"); err != nil {
		t.Skipf("no Git that knows SHA-256: %s", out)
	}
	mustGit(t, dir, "", "config", "core.protectHFS", "true")
	mustGit(t, dir, "", "config", "core.protectNTFS", "true")
	blob := mustGit(t, dir, "* text eol=crlf\n[submodule \"x\"]\n\turl = -x\n\tpath = ..\n", "hash-object", "-w", "--stdin")
	sub := mustGit(t, dir, fmt.Sprintf("100644 blob %s\tf\x00", blob), "mktree", "-z")
	names := hardNames()
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:test.Count(t, len(names))]
	var roots strings.Builder
	for _, mode := range []objects.Mode{objects.ModeFile, objects.ModeSymlink, objects.ModeDir} {
		id := blob
		if mode.IsDir() {
			id = sub
		}
		var tree strings.Builder
		for _, name := range names {
			escaped := entry.EscapeName(name, mode)
			fmt.Fprintf(&tree, "%06o %s %s\t%s\x00", mode, mode.Kind(), id, escaped)
		}
		fmt.Fprintf(&roots, "040000 tree %s\t%o\x00", mustGit(t, dir, tree.String(), "mktree", "-z"), mode)
	}
	root := mustGit(t, dir, roots.String(), "mktree", "-z")
	commit := mustGit(t, dir, "m", "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", root)
	mustGit(t, dir, "", "update-ref", "refs/heads/main", commit)
	if out, err := git(t, dir, "", "fsck", "--strict", "--no-dangling", "--no-progress"); err != nil || out != "" {
		t.Errorf("fsck: %v: %.2000s", err, out)
	}
	mustGit(t, dir, "", "checkout", "-q", "-f", "main")
	for _, mode := range []string{"100644", "120000", "40000"} {
		files, err := os.ReadDir(dir + "/" + mode)
		if err != nil || len(files) != len(names) {
			t.Errorf("checkout wrote %d of %d names in %s: %v", len(files), len(names), mode, err)
		}
	}
}
