package entry

import (
	"context"
	"maps"
	"slices"

	"github.com/cache-tool/cache-tool/objects"
)

// Same reports whether the entries a and b have the same payload: the same
// trees but for meta, the same modes, the same extras. Times, provenance and how
// long something took do not count.
func Same(ctx context.Context, r objects.Reader, a, b objects.ID) (bool, error) {
	if a == b {
		return true, nil
	}
	payloadA, metaA, err := Read(ctx, r, a)
	if err != nil {
		return false, err
	}
	payloadB, metaB, err := Read(ctx, r, b)
	if err != nil {
		return false, err
	}
	return slices.Equal(payloadA, payloadB) && metaA.same(metaB), nil
}

func (m Meta) same(other Meta) bool {
	return m.Kind == other.Kind && m.Latest == other.Latest && maps.Equal(m.Extra, other.Extra) &&
		maps.EqualFunc(m.modes(), other.modes(), slices.Equal[[]uint16])
}

// modes returns the modes of each of m.Files that has any.
func (m Meta) modes() map[string][]uint16 {
	modes := map[string][]uint16{}
	for _, f := range m.Files {
		if slices.ContainsFunc(f.Modes, func(mode uint16) bool { return mode != 0 }) {
			modes[f.Path] = f.Modes
		}
	}
	return modes
}

// Newer returns whichever of the entries a and b was made later. If that cannot
// be told it is the one with the greater id, so that everybody decides alike.
func Newer(ctx context.Context, r objects.Reader, a, b objects.ID) (objects.ID, error) {
	_, metaA, err := Read(ctx, r, a)
	if err != nil {
		return objects.ID{}, err
	}
	_, metaB, err := Read(ctx, r, b)
	if err != nil {
		return objects.ID{}, err
	}
	c := metaA.Created.Compare(metaB.Created)
	if c > 0 || c == 0 && a.Compare(b) > 0 {
		return a, nil
	}
	return b, nil
}
