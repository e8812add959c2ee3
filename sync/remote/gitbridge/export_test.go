package gitbridge

// Packed returns how many bytes of packs were made so far.
func Packed() int64 { return packedBytes.Load() }
