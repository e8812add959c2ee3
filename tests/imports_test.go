package tests

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/cache-tool/cache-tool"

// mayImport is the architecture: which of our packages, and which modules of
// others, a package may import. The standard library is free to all. A name that
// ends in "/..." stands for all packages below. Tests are not looked at, nor is
// what only tests import (testOnly).
//
// Each line leads down: objects know nothing of files, stores nothing of
// commands, this store (repo) nothing of other stores (sync).
var mayImport = map[string][]string{
	"":         {"commands"},
	"commands": {"commands/run", "internal/durable", "internal/uses", "objects", "objects/...", "refs", "repo", "repo/...", "sync/...", cli, smetrics, bar, xsys},

	// What a hit of run takes to start hangs on this: no command line, no network.
	"internal/front": {"commands/run", "refs", "repo", "repo/action"},
	"commands/run":   {"objects/entry", "refs", "repo", "repo/action"},

	"repo":           {"internal/durable", "objects", "objects/...", "refs", "repo/stage", "repo/known", "repo/statcache", "repo/worktree", "repo/action", "repo/gc", "repo/ci", "internal/uses", goGit, goBilly, xsync, xsys},
	"repo/action":    {"internal/durable", "objects", "objects/...", "repo/statcache", "internal/uses", "repo/worktree", doublestar, xsync, xsys},
	"repo/worktree":  {"internal/durable", "objects", "objects/...", "repo/statcache", doublestar, xsync, xsys},
	"repo/stage":     {"internal/durable", "objects", "objects/entry", "objects/trees", xsys},
	"repo/known":     {"internal/durable", "objects"},
	"repo/statcache": {"internal/durable", "objects", xsys},
	"repo/ci":        {},
	"repo/gc":        {"objects", "objects/entry", "objects/reach", "objects/trees", "refs"},

	"sync/frontend":          {"objects/entry"},
	"sync/frontend/ccache":   {"sync/frontend"},
	"sync/frontend/bazel":    {"sync/frontend"},
	"sync/frontend/gradle":   {"sync/frontend"},
	"sync/frontend/goprog":   {"internal/durable", "objects/entry", "sync/frontend", xsync},
	"sync/frontend/dune":     {"internal/durable", "objects", "objects/...", blake3, xsync},
	"sync/transfer":          {"objects", "objects/odb", "objects/pack", "objects/reach", "sync/remote", xsync},
	"sync/replica":           {"internal/durable", "internal/uses", "objects", "objects/odb", "objects/pack", "objects/reach", "refs", "sync/remote", "sync/remote/bucket", "sync/remote/peer", "sync/transfer"},
	"sync/remote/peer":       {"internal/uses", "objects", "objects/odb", "objects/pack", "objects/reach", "refs", "sync/remote"},
	"sync/remote/bucket":     {"internal/durable", "internal/uses", "objects", "objects/pack", "objects/reach", "refs", "sync/remote", xsync},
	"sync/remote/bundle":     {"objects", "objects/odb", "objects/pack", "objects/reach", "refs", "sync/remote"},
	"sync/remote/dir":        {"internal/durable", "sync/remote"},
	"sync/remote/attempt":    {"sync/remote"},
	"sync/remote/webdav":     {"sync/auth", "sync/remote", "sync/remote/attempt"},
	"sync/remote/s3":         {"sync/auth", "sync/remote", "sync/remote/attempt", minioKeys, minioSigner, minioUtils, ini, xsync},
	"sync/remote/httpremote": {"internal/uses", "objects", "objects/pack", "refs", "sync/auth", "sync/remote", "sync/remote/attempt", "sync/wire"},
	"sync/remote/gitbridge":  {"internal/durable", "objects", "objects/chunk", "objects/gitpack", "objects/odb", "objects/reach", "refs", "sync/auth", "sync/remote", "sync/remote/peer", goGit, sha1cd, xsys},
	"sync/remote":            {"internal/uses", "objects", "refs"},
	"sync/server":            {"objects", "objects/gitpack", "objects/pack", "objects/reach", "refs", "sync/auth", "sync/gitwire", "sync/remote", "sync/wire", xsync},
	"sync/gitwire":           {"objects"},
	"sync/wire":              {"internal/uses", "objects", "objects/pack", "refs", "sync/remote"},
	"sync/auth":              {"internal/durable", "refs"},

	"refs": {"internal/durable", "objects", xsys},

	"objects/gitpack":  {"internal/durable", "objects", compress, xsync, xsys},
	"objects/entry":    {"objects"},
	"objects/reach":    {"objects"},
	"objects/trees":    {"objects"},
	"objects/odb":      {"internal/durable", "objects", "objects/chunk", "objects/compress", "objects/pack", xsync, xsys},
	"objects/pack":     {"internal/durable", "objects", "objects/compress", xsys},
	"objects/compress": {"objects", compress},
	"objects/chunk":    {"objects"},
	"objects":          {},

	"internal/uses":    {"internal/durable"},
	"internal/durable": {xsys},
}

const (
	cli        = "github.com/urfave/cli/v2"
	smetrics   = "github.com/xrash/smetrics" // of cli: which command was meant
	bar        = "github.com/schollz/progressbar/v3"
	doublestar = "github.com/bmatcuk/doublestar/v4"
	compress   = "github.com/klauspost/compress"
	blake3     = "github.com/zeebo/blake3"
	ini        = "gopkg.in/ini.v1"
	// The client of minio-go itself costs 2 ms of every start, most of them to find out
	// on which machine it is; keys and signatures are to be had without.
	minioKeys   = "github.com/minio/minio-go/v7/pkg/credentials"
	minioSigner = "github.com/minio/minio-go/v7/pkg/signer"
	minioUtils  = "github.com/minio/minio-go/v7/pkg/s3utils"

	goGit   = "github.com/go-git/go-git/v5"
	sha1cd  = "github.com/pjbgf/sha1cd" // SHA-1 that knows objects which are made to collide
	goBilly = "github.com/go-git/go-billy/v5"
	xsync   = "golang.org/x/sync"
	xsys    = "golang.org/x/sys"
)

// testOnly are packages that only tests, and programs that measure, import.
var testOnly = []string{"internal/test", "objects/objectstest", "refs/refstest", "sync/remote/remotetest", "sync/remote/webdav/davtest", "sync/remote/s3/s3test", "sync/server/servertest", "tests", "tests/..."}

// slow are packages of go-git that cost every start of the command 1 ms and more
// because they make tables and compile expressions when they are linked in.
var slow = []string{goGit, goGit + "/plumbing/object", goGit + "/plumbing/transport/..."}

func TestImportsLeadDown(t *testing.T) {
	imports := readImports(t)
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		if matches(pkg, testOnly) {
			continue
		}
		allowed, ok := mayImport[pkg]
		if !ok {
			t.Errorf("package %q is not in the table of what may import what", pkg)
			continue
		}
		for _, imp := range imports[pkg] {
			inside, ours := strings.CutPrefix(imp, module+"/")
			switch {
			case ours && matches(inside, allowed) && !matches(inside, testOnly):
			case !ours && inModule(imp, allowed) && !matches(imp, slow):
			default:
				t.Errorf("%s imports %s, which it may not", orMain(pkg), imp)
			}
		}
	}
	for pkg := range mayImport {
		if _, ok := imports[pkg]; !ok {
			t.Errorf("package %q is in the table, but has no sources", pkg)
		}
	}
}

// readImports parses all sources but tests and returns what each package, named
// by its directory, imports from outside the standard library.
func readImports(t *testing.T) map[string][]string {
	t.Helper()
	root := ".."
	imports := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && name != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata" || e.Name() == "build"):
			return filepath.SkipDir
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		pkg := strings.TrimPrefix(path.Clean(filepath.ToSlash(dir)), ".")
		list := imports[pkg]
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			first, _, _ := strings.Cut(imp, "/")
			if strings.Contains(first, ".") && !slices.Contains(list, imp) {
				list = append(list, imp)
			}
		}
		imports[pkg] = list
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
}

// matches reports whether pkg is one of patterns.
func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		below, all := strings.CutSuffix(p, "/...")
		return pkg == p || all && strings.HasPrefix(pkg, below+"/")
	})
}

// inModule reports whether imp belongs to one of modules.
func inModule(imp string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool {
		return imp == m || strings.HasPrefix(imp, m+"/")
	})
}

func orMain(pkg string) string {
	if pkg == "" {
		return "the main package"
	}
	return pkg
}
