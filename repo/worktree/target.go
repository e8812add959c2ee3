package worktree

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cache-tool/cache-tool/objects"
)

// A target is a Target that is being restored.
type target struct {
	Target
	*way
	name string // in the directory that the way leads to

	want  want     // what is to stand there
	above *wantDir // the directory that the way leads to
	top   int      // the target itself if it is a directory now, else -1
}

// shown is what errors call a path below the target.
func (t *target) shown(path string) string {
	return filepath.Join(t.Dir, t.Name, path)
}

// openTarget opens what there is of the target and the way to it.
func (s *restore) openTarget(t Target) error {
	p := &target{Target: t, top: -1}
	p.Dir = filepath.Clean(t.Dir)
	if !t.Mode.Valid() {
		return fmt.Errorf("restore %s: mode %o", p.shown(""), t.Mode)
	}
	var err error
	if t.Name == "" {
		if !t.Mode.IsDir() {
			return fmt.Errorf("restore to %s: a file wants a name in a directory", t.Dir)
		}
		p.way, p.name = s.wayTo(filepath.Dir(p.Dir), ""), filepath.Base(p.Dir)
		// Links lead on from here as they did on the way here.
		if p.top, err = openAny(p.Dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	} else {
		for name := range strings.SplitSeq(t.Name, "/") {
			if err := objects.CheckName(name); err != nil {
				return fmt.Errorf("restore to %s below %s: %w", t.Name, t.Dir, err)
			}
		}
		above, name := path.Split(t.Name)
		p.way, p.name = s.wayTo(p.Dir, strings.TrimSuffix(above, "/")), name
	}
	s.places = append(s.places, p)
	if p.top >= 0 {
		return s.checkKept(p, p.top)
	}
	if p.way.opened {
		return nil
	}
	if err := p.way.open(); err != nil {
		return err
	}
	return s.checkKept(p, p.ground)
}

// checkKept refuses a target in a directory that is kept.
func (s *restore) checkKept(t *target, dir int) error {
	if held, err := s.keep.holds(dir); err != nil {
		return pathError("open", t.shown(".."), err)
	} else if held {
		return fmt.Errorf("restore %s: nothing there may be changed", t.shown(""))
	}
	return nil
}
