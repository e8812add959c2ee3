package commands

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func remoteCommand(s *session) *cli.Command {
	var lazy bool
	var endpoint, region string
	return &cli.Command{
		Name:      "remote",
		Category:  categoryRemote,
		Usage:     "say where other stores are",
		ArgsUsage: "[list] | add NAME URL | show NAME | remove NAME | set-url NAME URL",
		Description: text(`
A remote is another store that this one is pushed to and pulled from. Its URL is
the path of another repository, which is made if it is not there; or

  bucket+file:///srv/cache      a directory on a share, that many machines mount
  dav+https://host/path         a directory on a WebDAV server
  s3://bucket/path              an object store: Amazon S3, or another by --endpoint
  https://host                  a cache-tool server
  git+https://host/path         a repository on a Git server; also git+ssh://

Passwords have no place in a URL: they come from ~/.netrc, tokens from
$CACHE_TOOL_TOKEN, keys of object stores from the environment, ~/.aws or the role of
the machine. What an object store can do is tried out when it is added.`, `
cache-tool remote add origin dav+https://cache.example.org/team
cache-tool remote add --endpoint https://minio.example.org:9000 origin s3://caches/team`),
		Flags: []cli.Flag{
			boolFlag(&lazy, "with add: fetch only what is needed, when it is needed", "lazy"),
			&cli.StringFlag{Name: "endpoint", Usage: "with s3://: the `URL` of the object store", Destination: &endpoint},
			&cli.StringFlag{Name: "region", Usage: "with s3://: the bucket is in the region `NAME`", Destination: &region},
		},
		Action: func(c *cli.Context) error {
			verb, args := c.Args().First(), c.Args().Tail()
			if verb == "" {
				verb = "list"
			}
			want, ok := map[string]int{"list": 0, "add": 2, "show": 1, "remove": 1, "set-url": 2}[verb]
			if !ok {
				return usagef("%q: want list, add, show, remove or set-url", verb)
			}
			if len(args) != want {
				return usagef("remote %s wants %s, got %d", verb, counted(want, "argument"), len(args))
			}
			if lazy && verb != "add" {
				return &usageError{"--lazy goes with remote add", []string{`"cache-tool fetch --lazy REMOTE" makes a repository a lazy one later`}}
			}
			given, err := s3Settings(verb, args, endpoint, region)
			if err != nil {
				return err
			}
			open := s.open
			if verb == "add" {
				open = s.openToWrite
			}
			r, err := open(c.Context)
			if err != nil {
				return err
			}
			switch verb {
			case "add":
				return s.addRemote(c.Context, r, remoteStore{name: args[0], url: args[1], lazy: lazy, given: given})
			case "show":
				return s.showRemote(c.Context, r, args[0])
			case "remove":
				return s.removeRemote(c.Context, r, args[0])
			case "set-url":
				return s.setRemoteURL(c.Context, r, remoteStore{name: args[0], url: args[1], given: given})
			}
			return s.listRemotes(r)
		},
	}
}

// A remoteJSON is what --json says of a remote.
type remoteJSON struct {
	Name string    `json:"name"`
	URL  string    `json:"url"`
	Lazy bool      `json:"lazy,omitempty"`
	Refs []refJSON `json:"refs,omitempty"`
}

type refJSON struct {
	Ref    string     `json:"ref"`
	Commit objects.ID `json:"commit"`
}

func (s *session) listRemotes(r *repo.Repo) error {
	list := []remoteJSON{}
	width := 0
	for _, name := range remoteNames(r) {
		m, err := s.remoteNamed(r, name)
		if err != nil {
			return err
		}
		list = append(list, remoteJSON{Name: m.name, URL: m.shownURL(), Lazy: m.lazy})
		width = max(width, len(shown(name)))
	}
	if s.json {
		return s.answer(map[string]any{"remotes": list})
	}
	for _, m := range list {
		lazy := ""
		if m.Lazy {
			lazy = "  (lazy)"
		}
		s.printf("%-*s  %s%s\n", width, shown(m.Name), shown(m.URL), lazy)
	}
	return nil
}

func (s *session) addRemote(ctx context.Context, r *repo.Repo, m remoteStore) error {
	if err := refs.Remote(m.name, "main").Check(); err != nil || strings.ContainsAny(m.name, "/.\"\\\n") {
		return usagef("%s: no name for a remote: letters, digits, dashes", shown(m.name))
	}
	if slices.Contains(remoteNames(r), m.name) {
		return withHint(fmt.Errorf("remote %s exists already", shown(m.name)), fmt.Sprintf(`"cache-tool remote set-url %s URL" says where it is now`, m.name))
	}
	if err := s.onlyLazy(r, m.name); err != nil && m.lazy {
		return err
	}
	return s.writeRemote(ctx, r, m)
}

// onlyLazy refuses a second remote that promises what is not here: nobody would know
// whom to ask.
func (s *session) onlyLazy(r *repo.Repo, name string) error {
	if at, err := r.Config.Get("remote." + name + ".url"); err == nil && !repo.ServesObjects(at) {
		return errNotLazy(at)
	}
	for _, other := range remoteNames(r) {
		if m, err := s.remoteNamed(r, other); err == nil && m.lazy && other != name {
			return withHint(fmt.Errorf("remote %s has already promised what is not here", shown(other)),
				fmt.Sprintf(`"cache-tool fetch --all-content %s" brings all of it here; then another one can be lazy`, other))
		}
	}
	return nil
}

// errNotLazy says that a remote cannot be asked for one object.
func errNotLazy(url string) error {
	return withHint(fmt.Errorf("%s serves whole branches only, and no repository can be a lazy one of it", shown(remoteStore{url: url}.shownURL())),
		"without --lazy all of it comes at once, and later only what is new")
}

func (s *session) setRemoteURL(ctx context.Context, r *repo.Repo, m remoteStore) error {
	was, err := s.configured(r, m.name)
	if err != nil {
		return err
	}
	m.lazy = was.lazy
	return s.writeRemote(ctx, r, m)
}

func (s *session) writeRemote(ctx context.Context, r *repo.Repo, m remoteStore) error {
	if err := checkURL(m.url); err != nil {
		return err
	}
	if err := s.probe(ctx, r, m); err != nil {
		return err
	}
	for key, value := range m.given {
		if err := r.Config.Set(ctx, "remote."+m.name+"."+key, value); err != nil {
			return err
		}
	}
	if err := s.setRemote(ctx, r, m.name, m.url, m.lazy); err != nil {
		return err
	}
	url := absolute(m.url)
	if s.json {
		return s.answer(remoteJSON{Name: m.name, URL: url, Lazy: m.lazy})
	}
	s.say("remote %s is %s", shown(m.name), shown(url))
	return nil
}

// absolute makes a path one that means the same in other directories. URLs do.
func absolute(url string) string {
	if abs, err := filepath.Abs(url); err == nil && !strings.Contains(url, "://") {
		return abs
	}
	return url
}

func (s *session) setRemote(ctx context.Context, r *repo.Repo, name, url string, lazy bool) error {
	if err := checkURL(url); err != nil {
		return err
	}
	if lazy && !repo.ServesObjects(url) {
		return errNotLazy(url)
	}
	url = absolute(url)
	if err := r.Config.Set(ctx, "remote."+name+".url", url); err != nil {
		return err
	}
	if lazy {
		return r.Config.Set(ctx, "remote."+name+".lazy", "true")
	}
	return nil
}

// removeRemote forgets a remote, and where its branches were. What a lazy
// repository has not fetched from it is then missing: that is asked for first.
func (s *session) removeRemote(ctx context.Context, r *repo.Repo, name string) error {
	m, err := s.configured(r, name)
	if err != nil {
		return err
	}
	if m.lazy {
		return withHint(fmt.Errorf("remote %s has what this repository lacks", shown(name)),
			fmt.Sprintf(`"cache-tool fetch --all-content %s" brings it here; then the remote can be removed`, name))
	}
	var updates []refs.Update
	for ref, err := range r.Refs.All(ctx, "refs/remotes/"+name+"/") {
		if err != nil {
			return err
		}
		updates = append(updates, refs.Update{Name: ref.Name, Old: ref.ID, Reason: "remote: removed"})
	}
	for _, pair := range r.Config.List() {
		ours := strings.HasPrefix(pair[0], "remote."+name+".") || strings.HasPrefix(pair[0], "branch.") && strings.HasSuffix(pair[0], ".remote") && pair[1] == name
		if ours {
			if err := r.Config.Set(ctx, pair[0], ""); err != nil {
				return err
			}
		}
	}
	if err := r.Refs.Apply(ctx, updates...); err != nil {
		return err
	}
	if s.json {
		return s.answer(remoteJSON{Name: name, URL: m.shownURL()})
	}
	s.say("removed remote %s", shown(name))
	return nil
}

// showRemote asks a remote for its refs.
func (s *session) showRemote(ctx context.Context, r *repo.Repo, name string) error {
	m, err := s.remoteNamed(r, name)
	if err != nil {
		return err
	}
	x, err := s.exchangeWith(ctx, r, m, false)
	if err != nil {
		return err
	}
	document := remoteJSON{Name: m.name, URL: m.shownURL(), Lazy: m.lazy}
	for ref, id := range x.there {
		document.Refs = append(document.Refs, refJSON{string(ref), id})
	}
	slices.SortFunc(document.Refs, func(a, b refJSON) int { return strings.Compare(a.Ref, b.Ref) })
	if s.json {
		return s.answer(document)
	}
	s.printf("%s\n", shown(m.shownURL()))
	for _, ref := range document.Refs {
		here := ""
		if tracking := x.tracking(refs.Name(ref.Ref)); tracking != "" {
			switch id, err := r.Refs.Get(ctx, tracking); {
			case err != nil:
				here = "  (new)"
			case id != ref.Commit:
				here = "  (seen last at " + id.Short() + ")"
			}
		}
		s.printf("%s  %s%s\n", ref.Commit.Short(), shown(refs.Name(ref.Ref).Short()), here)
	}
	return nil
}
