package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
	"github.com/cache-tool/cache-tool/repo/ci"
	"github.com/cache-tool/cache-tool/sync/remote"
)

var errUnreachable = remote.ErrUnreachable

// The variables that wrap sets, and those that it goes by.
const (
	repoVariable    = "CACHE_TOOL_REPO"
	branchVariable  = "CACHE_TOOL_BRANCH"
	baseVariable    = "CACHE_TOOL_BASE"
	wrappedVariable = "CACHE_TOOL_WRAPPED" // the repository of the wrap that the command runs in
	remoteVariable  = "CACHE_TOOL_REMOTE"
)

// openWrapped opens the repository for a build, and works out which branch that is, and
// where it goes.
func (s *session) openWrapped(ctx context.Context, typed wrapping, open func(context.Context) (*repo.Repo, error)) (*wrapped, error) {
	w := &wrapped{s: s, typed: typed, build: detect()}
	if typed.base != "" {
		if _, err := branchNamed(typed.base); err != nil {
			return nil, err
		}
	}
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	w.repo = r
	if os.Getenv(wrappedVariable) == r.Dir && s.branchFlag == "" {
		w.within = true
		return w, nil
	}
	if err := w.chooseBranch(ctx); err != nil {
		return nil, err
	}
	if err := w.chooseRemote(ctx); err != nil {
		s.warn("%v: going on without a remote", err)
	}
	if err := w.setBase(ctx); err != nil {
		s.warn("%v", err) // the command is told all the same
	}
	return w, nil
}

// detect returns what a CI service says of the build.
func detect() ci.Build {
	b := ci.Detect(os.Getenv)
	if name := os.Getenv("GITHUB_EVENT_PATH"); name != "" && b.Provider != "" {
		if e, err := readEvent(name); err == nil {
			b.Learn(e)
		}
	}
	return b
}

// readEvent reads what started a job of GitHub Actions, or of those that are like it.
func readEvent(name string) (ci.Event, error) {
	const most = 16 << 20
	f, err := os.Open(name)
	if err != nil {
		return ci.Event{}, err
	}
	defer f.Close()
	type repository struct {
		Name    string `json:"full_name"`
		Default string `json:"default_branch"`
	}
	var e struct {
		Repository repository `json:"repository"`
		Issue      struct {
			Number  int       `json:"number"`
			Request *struct{} `json:"pull_request"`
		} `json:"issue"`
		Request *struct {
			Number int `json:"number"`
			Head   struct {
				Repository repository `json:"repo"`
			} `json:"head"`
		} `json:"pull_request"`
	}
	if err := json.NewDecoder(io.LimitReader(f, most)).Decode(&e); err != nil {
		return ci.Event{}, err
	}
	event := ci.Event{Default: e.Repository.Default}
	switch {
	case e.Request != nil:
		event.Request, event.Fork = e.Request.Number, e.Request.Head.Repository.Name != e.Repository.Name
	case e.Issue.Request != nil:
		event.Request = e.Issue.Number
	}
	return event, nil
}

// chooseBranch finds the branch that the build writes, and the one below it.
func (w *wrapped) chooseBranch(ctx context.Context) error {
	source := repo.ReadSource(".")
	name := cmp.Or(w.s.branchFlag, os.Getenv(branchVariable), w.build.Branch)
	if name == "" {
		name = source.Branch
	}
	if name == "" && source.Root != "" {
		name = "detached" // which no other branch reads
	}
	var err error
	if name == "" {
		w.branch, err = w.repo.Refs.Head(ctx)
		return err
	}
	if w.branch, err = branchNamed(name); err != nil {
		return err
	}
	w.base = cmp.Or(w.typed.base, os.Getenv(baseVariable), w.build.Below())
	if w.base == "" && w.build.Provider == "" {
		w.base = cmp.Or(baseOf(w.repo, w.branch), repo.SourceDefault("."))
	}
	head, err := w.repo.Refs.Head(ctx)
	if base := refs.Branch(w.base); w.base == "" || base == w.branch || base == head || base.Check() != nil {
		w.base = ""
	}
	return err
}

// setBase notes which branch is below the build's own, so that the branch is read
// through it later, too.
func (w *wrapped) setBase(ctx context.Context) error {
	name := "branch." + w.branch.Short() + ".base"
	if is, err := w.repo.Config.Get(name); err != nil || is == w.base {
		return err
	}
	if w.typed.printEnv {
		return nil
	}
	err := w.repo.Config.Set(ctx, name, w.base)
	if err != nil && w.base != "" {
		return errors.Join(err, w.repo.Config.Override(name, w.base))
	}
	return err
}

// chooseRemote finds the remote that the branch comes from and goes to. It is a lazy one
// from now on, unless it has been pulled from in full.
func (w *wrapped) chooseRemote(ctx context.Context) error {
	s, r := w.s, w.repo
	if at := os.Getenv(remoteVariable); at != "" {
		if err := w.setRemote(ctx, at); err != nil {
			return err
		}
	}
	if len(remoteNames(r)) == 0 {
		return nil
	}
	m, err := s.remoteFor(r, "", w.branch)
	if err != nil {
		return err
	}
	lazy := m.lazy
	if !lazy && m.name != "" && s.onlyLazy(r, m.name) == nil {
		lazy = true
		for range r.Refs.All(ctx, string(refs.Remote(m.name, ""))) {
			lazy = false
			break
		}
	}
	if !w.typed.printEnv {
		if r, m, err = s.makeLazy(ctx, r, m, fetching{lazy: lazy}); err != nil {
			return err
		}
	}
	w.repo, w.remote, w.hasRemote = r, m, true
	return nil
}

// setRemote makes origin the remote at a URL.
func (w *wrapped) setRemote(ctx context.Context, at string) error {
	is, err := w.repo.Config.Get("remote." + originName + ".url")
	if err != nil || is == absolute(at) || w.typed.printEnv {
		return err
	}
	if err := setSetting(ctx, w.repo, "remote."+originName+".url", at); err != nil {
		return fmt.Errorf("$%s: %w", remoteVariable, err)
	}
	return nil
}

// patience is how long a pull or a push may take.
func (w *wrapped) patience() time.Duration {
	setting, _ := w.repo.Config.Get("wrap.timeout")
	seconds, _ := strconv.Atoi(setting) // it was checked
	return time.Duration(seconds) * time.Second
}

func (w *wrapped) tooSlow() error {
	return withHint(remote.Unreachable(fmt.Errorf("it took longer than %s", w.patience())), "the setting wrap.timeout gives it more time")
}

// variables are what the command finds in its environment.
func (w *wrapped) variables() []string {
	list := []string{repoVariable + "=" + w.repo.Dir, branchVariable + "=" + w.branch.Short()}
	if w.base != "" {
		list = append(list, baseVariable+"="+w.base)
	}
	return list
}

// printEnv prints what a command would find in its environment. Where the build tools
// find the cache is a comment: nobody is there when this command has ended.
func (s *session) printEnv(ctx context.Context, typed wrapping) error {
	w, err := s.openWrapped(ctx, typed, s.openToWrite)
	if err != nil {
		return err
	}
	if w.within {
		return nil // it is set
	}
	if g, err := s.startGateway(ctx, w.repo, w.branch); err == nil {
		w.gateway = g
		defer w.stop()
	}
	list := w.variables()
	var ways []string
	if w.gateway != nil {
		ways = w.gateway.Env
	}
	if s.json {
		set := map[string]string{}
		for _, v := range slices.Concat(list, ways) {
			name, value, _ := strings.Cut(v, "=")
			set[name] = value
		}
		return s.answer(struct {
			Provider  string            `json:"provider,omitempty"`
			Branch    string            `json:"branch"`
			Base      string            `json:"base,omitempty"`
			Remote    string            `json:"remote,omitempty"`
			Push      bool              `json:"push"`
			Variables map[string]string `json:"variables"`
		}{w.build.Provider, w.branch.Short(), w.base, w.remote.name, w.hasRemote && w.mayPush(), set})
	}
	for _, v := range list {
		s.printf("%s\n", exported(v))
	}
	for _, v := range ways {
		s.printf("# %s\n", exported(v))
	}
	return nil
}

// exported is what a shell reads to set a variable.
func exported(variable string) string {
	name, value, _ := strings.Cut(variable, "=")
	return fmt.Sprintf("export %s='%s'", name, strings.ReplaceAll(value, "'", `'\''`))
}
