package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cache-tool/cache-tool/objects"
)

// Shallow returns the commits whose parents were cut off. They are kept as Git
// keeps them, in the file shallow, an id a line.
func (r *Repo) Shallow() (map[objects.ID]bool, error) {
	text, err := os.ReadFile(r.path("shallow"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	shallow := map[objects.ID]bool{}
	for line := range strings.Lines(string(text)) {
		id, err := objects.ParseID(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.path("shallow"), err)
		}
		shallow[id] = true
	}
	return shallow, nil
}
