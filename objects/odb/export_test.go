package odb

// Reboot lets this process run after the system was started again, until restore
// is called.
func Reboot(id string) (restore func()) {
	before := bootID
	bootID = func() string { return id }
	return func() { bootID = before }
}

// NextHugeIsFast makes b compress huge blobs quickly from now on, as if there had
// been many.
func (b *Batch) NextHugeIsFast() { b.huge.Store(fastAfter) }
