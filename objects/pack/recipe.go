package pack

import (
	"encoding/binary"

	"github.com/cache-tool/cache-tool/objects"
)

// A Piece is a chunk's place in a blob: the next Size bytes are its.
type Piece struct {
	ID   objects.ID
	Size uint32
}

// A BlobRecipe says of which chunks a blob consists:
//
//	32 bytes   id of the blob
//	8 bytes    its size
//	any number of chunks, in order:
//	    32 bytes   id
//	    4 bytes    size
//
// It is not proven by the blob's id: whoever puts the blob together hashes it.
type BlobRecipe struct {
	ID     objects.ID
	Size   int64
	pieces []byte // as in the record
}

const (
	recipeHeadSize = objects.IDSize + 8
	pieceSize      = objects.IDSize + 4
)

// AppendRecipe appends the record of a recipe to dst.
func AppendRecipe(dst []byte, id objects.ID, size int64, pieces []Piece) []byte {
	dst = append(dst, id[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(size))
	for i := range pieces {
		dst = append(dst, pieces[i].ID[:]...)
		dst = binary.BigEndian.AppendUint32(dst, pieces[i].Size)
	}
	return dst
}

// RecipeSize returns the length of a recipe of n chunks.
func RecipeSize(n int) int { return recipeHeadSize + n*pieceSize }

// ParseRecipe reads a recipe, which keeps body. The chunks have the size of the
// blob together, and none is empty.
func ParseRecipe(body []byte) (BlobRecipe, error) {
	var r BlobRecipe
	if len(body) < recipeHeadSize || (len(body)-recipeHeadSize)%pieceSize != 0 {
		return r, badPack("a recipe of %d bytes", len(body))
	}
	copy(r.ID[:], body)
	size := binary.BigEndian.Uint64(body[objects.IDSize:])
	r.Size, r.pieces = int64(size), body[recipeHeadSize:]
	total := uint64(0)
	for i := range r.Len() {
		n := r.Piece(i).Size
		if n == 0 || n > MaxRecord {
			return r, badPack("a recipe with a chunk of %d bytes", n)
		}
		total += uint64(n)
	}
	if total != size {
		return r, badPack("a recipe of %d bytes for a blob of %d", total, size)
	}
	return r, nil
}

// Len returns the number of chunks.
func (r BlobRecipe) Len() int { return len(r.pieces) / pieceSize }

// Piece returns chunk i.
func (r BlobRecipe) Piece(i int) Piece {
	var p Piece
	b := r.pieces[i*pieceSize : (i+1)*pieceSize]
	copy(p.ID[:], b)
	p.Size = binary.BigEndian.Uint32(b[objects.IDSize:])
	return p
}
