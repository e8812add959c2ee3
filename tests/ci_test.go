package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is in docs/ci is to be pasted, so it has to work as it stands: it is run as each
// service does, with the variables that it sets.

const ciDir = "../docs/ci"

// A job is a script of a service on a machine that had nothing before.
type job struct {
	*host
	outputs map[string]string // of an action
	state   map[string]string
}

// newJob is a job of a pull request, or of a branch.
func newJob(t *testing.T, env string) *job {
	t.Helper()
	j := &job{host: newHost(t)}
	for line := range strings.FieldsSeq(env) {
		j.env = append(j.env, line)
	}
	// What make does is to use the cache.
	bin := write(t, filepath.Join(j.dir, "bin", "make"), "#!/bin/sh\necho make \"$@\"\n"+
		"case $1 in deps) mkdir deps; echo dep >deps/a;; *) cache-tool run -- echo built;; esac\n")
	if err := os.Chmod(bin, 0o777); err != nil {
		t.Fatal(err)
	}
	j.setenv("PATH", filepath.Dir(bin)+":"+os.Getenv("PATH"))
	return j
}

// shell runs the steps of a script.
func (j *job) shell(steps []string) result {
	j.t.Helper()
	cmd := j.cmd()
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-ec", strings.Join(steps, "\n")}
	r, err := finish(cmd, longest)
	if err != nil {
		j.t.Fatal(err)
	}
	return r
}

var (
	listed   = regexp.MustCompile(`(?m)^ +- (cache-tool .*|test .*)$`) // in YAML
	shScript = regexp.MustCompile(`(?m)^ +sh '(.*)'$`)                 // in a Jenkinsfile
)

// TestScripts runs those of GitLab, Jenkins and Buildkite: the second job hits, and a
// pull request writes its own branch.
func TestScripts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file          string
		step          *regexp.Regexp
		branch, other string // variables
		deps          bool
	}{
		{"gitlab.yml", listed, "GITLAB_CI=true CI_COMMIT_BRANCH=main CI_DEFAULT_BRANCH=main",
			"GITLAB_CI=true CI_MERGE_REQUEST_IID=9 CI_MERGE_REQUEST_TARGET_BRANCH_NAME=main CI_COMMIT_REF_NAME=main", true},
		{"Jenkinsfile", shScript, "JENKINS_URL=https://j/ BRANCH_NAME=main",
			"JENKINS_URL=https://j/ BRANCH_NAME=PR-9 CHANGE_ID=9 CHANGE_TARGET=main CHANGE_FORK=mallory", false},
		{"buildkite.yml", listed, "BUILDKITE=true BUILDKITE_BRANCH=main BUILDKITE_PULL_REQUEST=false",
			"BUILDKITE=true BUILDKITE_BRANCH=mallory:main BUILDKITE_PULL_REQUEST=9 BUILDKITE_PULL_REQUEST_BASE_BRANCH=main", false},
	} {
		var steps []string
		for _, m := range tt.step.FindAllStringSubmatch(read(t, filepath.Join(ciDir, tt.file)), -1) {
			steps = append(steps, m[1])
		}
		if len(steps) == 0 || !strings.Contains(steps[0], "wrap -- make") {
			t.Fatalf("%s: the steps are %q", tt.file, steps)
		}
		shared := filepath.Join(newHost(t).dir, "shared")
		build := func(env, want string) {
			t.Helper()
			j := newJob(t, env+" CACHE_TOOL_REMOTE="+shared)
			r := j.shell(steps)
			if r.code != done || !strings.Contains(r.out, "built\n") || !strings.Contains(r.err, want) {
				t.Errorf("%s: %v", tt.file, r)
			}
			if _, err := os.Stat(j.work("deps", "a")); tt.deps && err != nil {
				t.Error(err)
			}
			j.sound()
		}
		build(tt.branch, "0 hits, 1 miss")
		build(tt.branch, "1 hit, 0 misses")
		build(tt.other, "1 hit, 0 misses")
		if tt.deps {
			if r := run(shared, "ls", "pr/9:save"); !strings.Contains(r.out, "deps-v2") {
				t.Errorf("%v", r)
			}
		}
		if r := run(shared, "fsck"); r.code != done {
			t.Errorf("%v", r)
		}
	}
}

// node runs a script of the action, as a runner does.
func (j *job) node(script string, inputs map[string]string) result {
	j.t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		j.t.Skip("no node: apt-get install nodejs")
	}
	path, err := filepath.Abs(filepath.Join(ciDir, "github", script))
	if err != nil {
		j.t.Fatal(err)
	}
	cmd := j.cmd()
	cmd.Path, cmd.Args = program, []string{"node", path}
	for name, value := range inputs {
		cmd.Env = append(cmd.Env, "INPUT_"+strings.ToUpper(name)+"="+value)
	}
	for name, value := range j.state {
		cmd.Env = append(cmd.Env, "STATE_"+name+"="+value)
	}
	files := map[string]*map[string]string{"GITHUB_OUTPUT": &j.outputs, "GITHUB_STATE": &j.state}
	for name, values := range files {
		*values = map[string]string{}
		cmd.Env = append(cmd.Env, name+"="+write(j.t, filepath.Join(j.dir, name), ""))
	}
	r, err := finish(cmd, longest)
	if err != nil {
		j.t.Fatal(err)
	}
	for name, values := range files {
		told := strings.Split(read(j.t, filepath.Join(j.dir, name)), "\n")
		for i := 0; i+2 < len(told); i += 3 {
			key, mark, ok := strings.Cut(told[i], "<<")
			if !ok || told[i+2] != mark {
				j.t.Fatalf("%s: %q", name, told)
			}
			(*values)[key] = told[i+1]
		}
	}
	return r
}

// TestGitHubAction runs the action as it is used in place of actions/cache.
func TestGitHubAction(t *testing.T) {
	t.Parallel()
	const (
		github  = "GITHUB_ACTIONS=true GITHUB_SERVER_URL=https://g GITHUB_REPOSITORY=o/r GITHUB_RUN_ID=7 "
		main    = github + "GITHUB_EVENT_NAME=push GITHUB_REF=refs/heads/main"
		request = github + "GITHUB_EVENT_NAME=pull_request GITHUB_REF=refs/pull/12/merge GITHUB_BASE_REF=main GITHUB_HEAD_REF=main"
	)
	shared := filepath.Join(newHost(t).dir, "shared")
	inputs := map[string]string{
		"path": "~/.npm\n  deps/*.txt\nbuild/**/keep\nnosuch\n!*.log\n", "key": "deps-linux-1", "restore-keys": "deps-linux-\ndeps-\n", "remote": shared,
	}
	with := func(changes ...string) map[string]string {
		changed := map[string]string{}
		for name, value := range inputs {
			changed[name] = value
		}
		for i := 0; i < len(changes); i += 2 {
			changed[changes[i]] = changes[i+1]
		}
		return changed
	}
	check := func(j *job, r result, code int, hit, matched string) {
		t.Helper()
		if r.code != code || j.outputs["cache-hit"] != hit || j.outputs["cache-matched-key"] != matched || j.outputs["cache-primary-key"] == "" {
			t.Errorf("%v, outputs %q", r, j.outputs)
		}
	}

	// The first job finds nothing, and saves what it made at its end.
	j := newJob(t, main)
	check(j, j.node("restore.js", inputs), done, "", "")
	for _, name := range []string{j.home(".npm", "m"), j.home(".npm", "m.log"), j.work("deps", "a.txt"), j.work("deps", "b.bin"), j.work("build", "x", "y", "keep"), j.work("build", "x", "not")} {
		write(t, name, name)
	}
	if r := j.node("post.js", inputs); r.code != done || !strings.Contains(r.out, "saved deps-linux-1") {
		t.Fatalf("%v", r)
	}
	j.sound()

	// Another one, of a pull request, has it all. It saves nothing.
	j = newJob(t, request)
	check(j, j.node("restore.js", with("lookup-only", "true")), done, "true", "deps-linux-1")
	if names, _ := readNames(j.work()); len(names) > 0 {
		t.Errorf("a look restores %q", names)
	}
	check(j, j.node("restore.js", inputs), done, "true", "deps-linux-1")
	for _, name := range []string{j.home(".npm", "m"), j.work("deps", "a.txt"), j.work("build", "x", "y", "keep")} {
		read(t, name)
	}
	for _, name := range []string{j.home(".npm", "m.log"), j.work("deps", "b.bin"), j.work("build", "x", "not")} {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is restored", name)
		}
	}
	if r := j.node("post.js", inputs); r.code != done || !strings.Contains(r.out, "nothing to save") {
		t.Errorf("%v", r)
	}

	// With another key it takes the newest that begins so, and saves its own to its branch.
	next := with("key", "deps-linux-2")
	check(j, j.node("restore.js", next), done, "false", "deps-linux-1")
	if r := j.node("post.js", next); r.code != done || !strings.Contains(r.out, "saved deps-linux-2") {
		t.Errorf("%v", r)
	}
	if r := run(shared, "ls", "pr/12:save"); !strings.Contains(r.out, "deps-linux-2") || strings.Contains(r.out, "deps-linux-1") {
		t.Errorf("%v", r)
	}
	if r := run(shared, "ls", "main:save"); strings.Contains(r.out, "deps-linux-2") {
		t.Errorf("%v", r)
	}

	// The two halves as actions of their own; saving a key twice is no error.
	j = newJob(t, main)
	check(j, j.node("restore.js", with("key", "other", "restore-keys", "oth")), done, "", "")
	write(t, j.work("deps", "c.txt"), "c")
	for range 2 {
		if r := j.node("save.js", with("key", "other")); r.code != done || strings.Contains(r.out, "::warning::") {
			t.Errorf("%v", r)
		}
	}
	check(j, j.node("restore.js", with("key", "other", "restore-keys", "")), done, "true", "other")

	// A miss fails a job only if that is asked for; what is wrong with the cache never does.
	check(j, j.node("restore.js", with("key", "none", "restore-keys", "", "fail-on-cache-miss", "true")), failed, "", "")
	check(j, j.node("restore.js", with("program", "/nonexistent/cache-tool")), done, "", "")
	if r := j.node("save.js", with("program", "/nonexistent/cache-tool")); r.code != done || !strings.Contains(r.out, "::warning::") {
		t.Errorf("%v", r)
	}
	if r := j.node("save.js", with("path", "nosuch")); r.code != done || !strings.Contains(r.out, "::warning::cache-tool: save deps-linux-1: there is nothing at nosuch") {
		t.Errorf("%v", r)
	}
	if r := newJob(t, main).node("restore.js", with("remote", "http://127.0.0.1:1")); r.code != done || !strings.Contains(r.err, "going on with what is here") {
		t.Errorf("%v", r)
	}
}

var (
	scriptOf = regexp.MustCompile(`(?m)^  (?:main|post): (.*)$`)
	inputOf  = regexp.MustCompile(`(?m)^  ([a-z-]+):\n    description: `)
)

// What the actions declare is there, and as actions/cache calls it.
func TestActionFiles(t *testing.T) {
	for name, want := range map[string]string{
		"action.yml":         "path key restore-keys fail-on-cache-miss lookup-only remote token program cache-hit cache-primary-key cache-matched-key",
		"restore/action.yml": "path key restore-keys fail-on-cache-miss lookup-only remote token program cache-hit cache-primary-key cache-matched-key",
		"save/action.yml":    "path key remote token program",
	} {
		file := filepath.Join(ciDir, "github", name)
		text := read(t, file)
		var names []string
		for _, m := range inputOf.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s declares %q, want %q", name, got, want)
		}
		scripts := scriptOf.FindAllStringSubmatch(text, -1)
		if len(scripts) == 0 {
			t.Errorf("%s runs nothing", name)
		}
		for _, m := range scripts {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
