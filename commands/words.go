package commands

import (
	"context"
	"slices"
	"strings"

	"github.com/cache-tool/cache-tool/objects/entry"
	"github.com/cache-tool/cache-tool/repo"
)

// What a shell may offer for an argument. Somebody is typing: an error is no
// offer, and a million keys are none either.

const maxOffered = 1000

// branchWords are the branches there are.
func (s *session) branchWords(ctx context.Context) []string {
	return s.refWords(ctx, "refs/heads/")
}

func revisionWords(ctx context.Context, s *session, _ []string, _ string) []string {
	return s.refWords(ctx, "refs/")
}

func (s *session) refWords(ctx context.Context, prefix string) []string {
	r, err := s.open(ctx)
	if err != nil {
		return nil
	}
	var words []string
	for ref, err := range r.Refs.All(ctx, prefix) {
		if err == nil {
			words = append(words, ref.Name.Short())
		}
	}
	return words
}

func savedWords(ctx context.Context, s *session, args []string, last string) []string {
	return s.keyWords(ctx, args, last, entry.Save)
}

func valueWords(ctx context.Context, s *session, args []string, last string) []string {
	return s.keyWords(ctx, args, last, entry.Put)
}

func entryWords(ctx context.Context, s *session, _ []string, last string) []string {
	return s.keyWords(ctx, nil, last, personal...)
}

// keyWords are keys of these kinds, as the first argument; then come files.
func (s *session) keyWords(ctx context.Context, args []string, last string, kinds ...entry.Kind) []string {
	if len(args) > 0 {
		return nil
	}
	r, v, prefix, ok := s.viewFor(ctx, last)
	if !ok {
		return nil
	}
	var words []string
	for _, kind := range kinds {
		words = append(words, keysBelow(ctx, r, v, kind, prefix, "")...)
	}
	return words
}

// pathWords are kinds, and below a kind its keys.
func pathWords(ctx context.Context, s *session, args []string, last string) []string {
	if len(args) > 0 {
		return nil
	}
	r, v, prefix, ok := s.viewFor(ctx, last)
	if !ok {
		return nil
	}
	kind, _, below := strings.Cut(strings.TrimPrefix(last, prefix), "/")
	if !below {
		return []string{prefix + "put/", prefix + "run/", prefix + "save/"}
	}
	if !entry.Kind(kind).Valid() {
		return nil
	}
	return keysBelow(ctx, r, v, entry.Kind(kind), prefix, kind+"/")
}

// viewFor returns the view that a word "REV:…" is about, and the "REV:".
func (s *session) viewFor(ctx context.Context, word string) (*repo.Repo, view, string, bool) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, view{}, "", false
	}
	v, rest, err := s.viewOf(ctx, r, word)
	return r, v, strings.TrimSuffix(word, rest), err == nil
}

func keysBelow(ctx context.Context, r *repo.Repo, v view, kind entry.Kind, prefix, path string) []string {
	var words []string
	for found, err := range entriesIn(ctx, r, v, kind) {
		if err != nil || len(words) == maxOffered {
			break
		}
		if !strings.ContainsAny(found.Key, "\n\t") && !entry.Abbreviated(found.Path) {
			words = append(words, prefix+path+found.Key)
		}
	}
	slices.Sort(words)
	return words
}

func configWords(_ context.Context, _ *session, args []string, _ string) []string {
	if len(args) == 0 {
		return []string{"list\tshow what is set", "get\tprint a value", "set\tchange a value", "unset\tgo back to the default"}
	}
	var words []string
	for _, one := range repo.Settings() {
		words = append(words, one.Name+"\t"+one.Help)
	}
	return words
}

// remoteWords are the remotes, and after one of them branches.
func remoteWords(ctx context.Context, s *session, args []string, _ string) []string {
	if len(args) > 0 {
		return s.branchWords(ctx)
	}
	r, err := s.open(ctx)
	if err != nil {
		return nil
	}
	return remoteNames(r)
}

func remoteVerbWords(ctx context.Context, s *session, args []string, last string) []string {
	if len(args) == 0 {
		return []string{"add	configure a remote", "list	the remotes there are", "show	look at one", "remove	forget one", "set-url	say where one is now"}
	}
	return remoteWords(ctx, s, nil, last)
}

func shellWords(context.Context, *session, []string, string) []string {
	return []string{"bash", "zsh", "fish", "powershell"}
}

func helpWords(_ context.Context, s *session, _ []string, _ string) []string { return s.verbWords() }

// donorWords are the remotes, of which any number may be named.
func donorWords(ctx context.Context, s *session, _ []string, _ string) []string {
	r, err := s.open(ctx)
	if err != nil {
		return nil
	}
	return remoteNames(r)
}
