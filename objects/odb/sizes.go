package odb

import (
	"github.com/cache-tool/cache-tool/objects/chunk"
	"github.com/cache-tool/cache-tool/objects/compress"
)

// The sizes of blocks, decompressed. Big ones compress better, small ones are
// quicker to take one object out of. (The sizes of chunks are package chunk's.)
const (
	// BigBlock is for whole trees, which are restored whole.
	BigBlock = 12 << 20

	// SmallBlock is for entries that are looked up one by one. It is the default.
	SmallBlock = 64 << 10

	metaBlock   = 32 << 10 // trees, commits, tags
	bulkMeta    = 48       // of whole trees: this part of the size of their other blocks
	chunkBlock  = 2 << 20  // chunks, if the batch has small blocks or many huge blobs
	recipeBlock = 1 << 20  // versions of a blob have recipes that are alike

	// A batch of less than this makes one pack, not two. So do merged packs, up
	// to mixedMerge.
	mixedBatch = 64 << 10
	mixedMerge = 1 << 20
)

// It takes a bigger window to have bigger blocks.
const _ = uint(compress.MaxBlock - BigBlock)

// MaxSpace is the size up to which Lane.Space reads blobs straight into a block.
// Bigger ones are chunked: see Lane.PutReader.
const MaxSpace = chunk.Threshold - 1

// DefaultLevel is how hard blocks are compressed.
const DefaultLevel = compress.Default

// Blobs of hugeFrom bytes or more are mostly binaries. Versions of one share
// chunks that are all over the blocks of the others; so all but the first of a
// batch have blocks of chunkBlock, small enough for many to be kept at hand.
// fastLevel makes nearly as little of them as DefaultLevel, in two thirds of the
// time: it is for all that come after the first fastAfter bytes of them, which
// most batches don't have.
const (
	hugeFrom  = 16 << 20
	fastAfter = 256 << 20
	fastLevel = compress.Fastest
)

// DefaultCache is how many bytes of decoded blocks a DB keeps.
const DefaultCache = 40 << 20

// How many packs there may be. Merging starts at mergeFrom of one kind; from
// crowded on, whoever adds a pack merges first and waits for others who do.
const (
	mergeFrom = 8
	crowded   = 30
)
