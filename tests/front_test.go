package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestFront tells the stories about run, and some others, with the two programs
// that are installed: the front does what the full one would do, or becomes it.
func TestFront(t *testing.T) {
	dir := t.TempDir()
	for name, pkg := range map[string]string{"cache-tool": "../internal/front", "cache-tool-full": ".."} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", build, err, out)
		}
	}
	var stories []string
	for _, pattern := range []string{"run_*", "explain_*", "interrupt_*", "usage_*", "lazy_*", "version_*"} {
		found, err := filepath.Glob(filepath.Join("testdata", pattern+".txtar"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d stories, %v", pattern, len(found), err)
		}
		stories = append(stories, found...)
	}
	p := storyParams()
	p.Files = stories
	p.Setup = func(e *testscript.Env) error {
		e.Setenv("PATH", dir+string(os.PathListSeparator)+e.Getenv("PATH"))
		return setup(e)
	}
	testscript.Run(t, p)
}

// TestFrontAlone runs it where the full program is not.
func TestFrontAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "cache-tool")
	if out, err := exec.Command("go", "build", "-o", name, "../internal/front").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	alone := exec.Command(name, "version")
	alone.Env = []string{"PATH=/nowhere"}
	out, err := alone.CombinedOutput()
	want := "cache-tool: exec: \"cache-tool-full\": executable file not found in $PATH\n" +
		"hint: cache-tool-full belongs beside cache-tool: install both programs that \"make build\" makes\n"
	if err == nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
}
