package repo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const sampleConfig = `# ours
[core]
	repositoryVersion = 1 ; the version
	Bare
	empty =
[user] # who
	name = "Ann  B. " ; "quoted"
	email = a\\b\"c\td
[branch "pr/1 \"x\" \\"]
	base = one \
two
[old.Style]
	key = value  with  spaces   
[user]
	name = Second # the last one counts
`

func TestConfigFile(t *testing.T) {
	f, err := parseConfigFile(sampleConfig)
	if err != nil {
		t.Fatal(err)
	}
	if f.String() != sampleConfig {
		t.Errorf("came back as %q", f.String())
	}
	for _, tt := range []struct{ section, subsection, key, want string }{
		{"core", "", "repositoryversion", "1"},
		{"core", "", "bare", "true"},
		{"core", "", "empty", ""},
		{"user", "", "name", "Second"},
		{"user", "", "email", "a\\b\"c\td"},
		{"branch", `pr/1 "x" \`, "base", "one two"},
		{"old", "style", "key", "value  with  spaces"},
	} {
		if got, ok := f.get(tt.section, tt.subsection, tt.key); !ok || got != tt.want {
			t.Errorf("%s.%s.%s = %q, %t, want %q", tt.section, tt.subsection, tt.key, got, ok, tt.want)
		}
	}
	if _, ok := f.get("core", "", "absent"); ok {
		t.Error("found what is not there")
	}
	for _, bad := range []string{"key = value\n", "[core\n", "[core] x\n", "[]\n", "[core]\n= x\n", "[core]\nkey value\n", "[core]\nk = \"x\n", "[core]\nk = \\x\n", "[a \"b\n\"]\n"} {
		if _, err := parseConfigFile(bad); err == nil {
			t.Errorf("parseConfigFile(%q) took it", bad)
		}
	}
}

func TestConfigFileKeepsOtherLines(t *testing.T) {
	f, err := parseConfigFile("# first\n[user]\n\tname = Ann # once\n\n[core]\n\tx = 1")
	if err != nil {
		t.Fatal(err)
	}
	f = f.set("user", "", "name", "Bob; B.")
	f = f.set("core", "", "y", "2")
	f = f.set("branch", `a"b`, "base", " main")
	f = f.remove("core", "", "x")
	want := "# first\n[user]\n\n\tname = \"Bob; B.\"\n[core]\n\ty = 2\n[branch \"a\\\"b\"]\n\tbase = \" main\"\n"
	if f.String() != want {
		t.Errorf("wrote %q, want %q", f.String(), want)
	}
}

// What is written is what Git reads, and the other way round.
func TestConfigFileIsGits(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"config", "-f"}, args...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git config %q: %v", args, err)
		}
		return strings.TrimSuffix(string(out), "\x00")
	}
	name := filepath.Join(t.TempDir(), "config")
	for _, value := range []string{"x", "", " a ", `"`, `\`, "a\nb", "a\tb", "# no comment", "a;b", "ä", "end\\"} {
		var f configFile
		f = f.set("sec", `Sub "\`, "key", value)
		if err := os.WriteFile(name, []byte(f.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := git(name, "-z", "--get", `sec.Sub "\.key`); got != value {
			t.Errorf("Git reads %q, want %q", got, value)
		}
		os.Remove(name)
		git(name, `sec.Sub "\.key`, value)
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err = parseConfigFile(string(text))
		if got, _ := f.get("sec", `Sub "\`, "key"); err != nil || got != value {
			t.Errorf("of %q read %q, %v, want %q", text, got, err, value)
		}
	}
}

func FuzzParseConfigFile(f *testing.F) {
	f.Add(sampleConfig)
	f.Add("[a]\nb=\"\\\n\"\n")
	f.Add("[a]b\n\\")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseConfigFile(text)
		if err != nil {
			return
		}
		if c.String() != strings.TrimPrefix(text, "\ufeff") {
			t.Errorf("%q came back as %q", text, c.String())
		}
		for _, value := range []string{"x", " \n\"\\"} {
			again, err := parseConfigFile(c.set("new", "s", "key", value).String())
			if err != nil {
				t.Fatalf("%q with a setting more: %v", text, err)
			}
			if got, ok := again.get("new", "s", "key"); !ok || got != value {
				t.Errorf("%q with a setting more: %q, %t", text, got, ok)
			}
			if len(again) < len(c) {
				t.Errorf("%q lost lines", text)
			}
		}
	})
}
