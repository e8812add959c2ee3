package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/odb"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/repo"
)

func tagCommand(s *session) *cli.Command {
	var annotate, remove, list, force bool
	var message string
	return &cli.Command{
		Name:      "tag",
		Category:  categoryHistory,
		Usage:     "list, make and delete tags",
		ArgsUsage: "[NAME [REV]]",
		Description: text(`
Without NAME it lists the tags. With NAME it gives that name to REV, or to the tip
of the current branch. With -a or -m the tag says who made it, when and why.`, `
cache-tool tag -a -m "what 2.1 was built from" v2.1`),
		Flags: []cli.Flag{
			boolFlag(&annotate, "make a tag that says who made it and why", "annotate", "a"),
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "what the tag says: `MESSAGE`", Destination: &message},
			boolFlag(&remove, "delete tags", "delete", "d"),
			boolFlag(&list, "list the tags", "list", "l"),
			boolFlag(&force, "replace a tag that is there already", "force", "f"),
		},
		Action: func(c *cli.Context) error {
			ctx, args := c.Context, c.Args().Slice()
			r, err := s.open(ctx)
			if err != nil {
				return err
			}
			switch {
			case remove:
				if err := arguments(c, 1, many); err != nil {
					return err
				}
				return s.deleteTags(ctx, r, args)
			case list || len(args) == 0:
				if err := arguments(c, 0, 0); err != nil {
					return err
				}
				return s.listTags(ctx, r)
			}
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			if annotate && message == "" {
				return usagef("-a wants a message: -m MESSAGE")
			}
			return s.makeTag(ctx, r, args[0], c.Args().Get(1), message, force)
		},
	}
}

// A tagJSON is what --json says of a tag.
type tagJSON struct {
	Name    string      `json:"name"`
	Commit  objects.ID  `json:"commit"`
	Tag     *objects.ID `json:"tag,omitempty"` // the tag object of an annotated one
	Tagger  *personJSON `json:"tagger,omitempty"`
	Message string      `json:"message,omitempty"`
	Deleted bool        `json:"deleted,omitempty"`
}

// describeTag reads what the tag that points to id says.
func describeTag(ctx context.Context, r *repo.Repo, name refs.Name, id objects.ID) tagJSON {
	t := tagJSON{Name: name.Short(), Commit: id}
	if body, err := objects.ReadTag(ctx, r.DB, id); err == nil {
		tagger := personJSON(body.Tagger)
		t.Commit, t.Tag, t.Tagger, t.Message = body.Object, &id, &tagger, body.Message
	}
	return t
}

func (s *session) listTags(ctx context.Context, r *repo.Repo) error {
	tags := []tagJSON{}
	for ref, err := range r.Refs.All(ctx, "refs/tags/") {
		if err != nil {
			s.warn("%v", err)
			continue
		}
		tags = append(tags, describeTag(ctx, r, ref.Name, ref.ID))
	}
	if s.json {
		return s.answer(map[string]any{"tags": tags})
	}
	width := 0
	for _, t := range tags {
		width = max(width, len(shown(t.Name)))
	}
	for _, t := range tags {
		subject, _, _ := strings.Cut(t.Message, "\n")
		s.printf("%s\n", strings.TrimRight(fmt.Sprintf("%-*s %s %s", width, shown(t.Name), t.Commit.Short(), printable(subject)), " "))
	}
	return nil
}

func (s *session) makeTag(ctx context.Context, r *repo.Repo, short, rev, message string, force bool) error {
	name := refs.Tag(short)
	if err := name.Check(); err != nil {
		return &usageError{text: err.Error()}
	}
	at, err := s.commitOf(ctx, r, rev)
	if err != nil {
		return err
	}
	old, err := r.Refs.Get(ctx, name)
	switch {
	case err == nil && !force:
		return withHint(fmt.Errorf("tag %s exists already, at %s", short, old.Short()), "-f replaces it")
	case err != nil && !errors.Is(err, refs.ErrNotFound):
		return err
	}
	id := at
	if message != "" {
		if id, err = putTag(ctx, r, objects.TagBody{
			Object: at, Kind: objects.Commit, Name: short, Tagger: r.Identity(),
			Message: strings.TrimRight(message, "\n") + "\n",
		}); err != nil {
			return err
		}
	}
	if err := r.Refs.Apply(ctx, refs.Update{Name: name, Old: old, New: id, Reason: "tag: " + at.Short()}); err != nil {
		return err
	}
	if s.json {
		return s.answer(describeTag(ctx, r, name, id))
	}
	s.say("tagged %s as %s", at.Short(), shown(short))
	return nil
}

// putTag keeps a tag object, durably: a ref is about to name it.
func putTag(ctx context.Context, r *repo.Repo, t objects.TagBody) (objects.ID, error) {
	batch, err := r.DB.NewBatch(ctx, odb.BatchOptions{})
	if err != nil {
		return objects.ID{}, err
	}
	defer batch.Close()
	id, err := batch.PutBytes(objects.Tag, t.Encode())
	if err != nil {
		return objects.ID{}, err
	}
	return id, batch.Commit(ctx, odb.Durable)
}

func (s *session) deleteTags(ctx context.Context, r *repo.Repo, names []string) error {
	var updates []refs.Update
	deleted := []tagJSON{}
	for _, short := range names {
		name := refs.Tag(short)
		if err := name.Check(); err != nil {
			return &usageError{text: err.Error()}
		}
		id, err := r.Refs.Get(ctx, name)
		if errors.Is(err, refs.ErrNotFound) {
			return withHint(fmt.Errorf("%s: no such tag", shown(short)), `"cache-tool tag" shows the tags`)
		} else if err != nil {
			return err
		}
		updates = append(updates, refs.Update{Name: name, Old: id, Reason: "tag: deleted"})
		one := describeTag(ctx, r, name, id)
		one.Deleted = true
		deleted = append(deleted, one)
	}
	if err := r.Refs.Apply(ctx, updates...); err != nil {
		return err
	}
	for _, t := range deleted {
		s.say("deleted tag %s, which was at %s", shown(t.Name), t.Commit.Short())
	}
	if s.json {
		return s.answer(map[string]any{"tags": deleted})
	}
	return nil
}
