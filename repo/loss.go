package repo

import (
	"errors"
	"time"

	"github.com/cache-tool/cache-tool/objects"
)

// MayLack reports whether an entry that was made at that time may lack objects:
// something was found damaged or missing since. Then it is no proof of what is
// stored, and the same payload is written again.
func (r *Repo) MayLack(made time.Time) bool { return !made.After(r.DB.LastLoss()) }

// noteLoss takes note of an object that is missing.
func (r *Repo) noteLoss(err error) {
	if errors.Is(err, objects.ErrNotFound) {
		r.DB.NoteLoss()
	}
}
