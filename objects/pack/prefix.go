package pack

import (
	"runtime"
	"runtime/debug"
	"sort"

	"github.com/cache-tool/cache-tool/objects"
)

// Between returns the ids from low to high, both included, at most limit of
// them, by id.
func (x *Index) Between(low, high objects.ID, limit int) (ids []objects.ID, err error) {
	lo, hi := int(x.fan[low[0]]), int(x.fan[int(high[0])+1])
	defer guard(debug.SetPanicOnFault(true), &err)
	i := lo + sort.Search(hi-lo, func(i int) bool { return x.id(lo+i).Compare(low) >= 0 })
	for ; i < hi && len(ids) < limit; i++ {
		id := x.id(i)
		if id.Compare(high) > 0 {
			break
		}
		ids = append(ids, id)
	}
	runtime.KeepAlive(x)
	return ids, nil
}
