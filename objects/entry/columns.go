package entry

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Two columns describe the files of an entry. All numbers are varints.
//
// Modes are runs: how many files, then the mode that they share.
//
// Times repeat: what was unpacked or compiled together was written in the same
// tick of the clock, and neighbours are close in time. So the column is a table
// of the times that occur, and places in it:
//
//	scale                 0 to 9: times are multiples of 10^scale nanoseconds
//	entries of the table
//	first time            in units of the scale, zigzag
//	differences           each to the time before; the table is sorted
//	width                 0: the places follow as zigzag differences to the one before
//	                      1, 2, 4: as numbers of so many bytes, little-endian

// NoPermission stands in Modes for the mode 0000, which zero does not.
const NoPermission = 0o10000

var errColumn = errors.New("malformed column")

func appendModes(dst []byte, modes []uint16) []byte {
	for i := 0; i < len(modes); {
		n := 1
		for i+n < len(modes) && modes[i+n] == modes[i] {
			n++
		}
		dst = binary.AppendUvarint(dst, uint64(n))
		dst = binary.AppendUvarint(dst, uint64(modes[i]))
		i += n
	}
	return dst
}

func parseModes(b []byte, count int) ([]uint16, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var modes []uint16
	c := column{b: b}
	for len(c.b) > 0 && !c.bad {
		n, mode := c.uvarint(), c.uvarint()
		if c.bad || n == 0 || n > uint64(count-len(modes)) || mode > NoPermission {
			return nil, errColumn
		}
		if modes == nil {
			modes = make([]uint16, 0, count)
		}
		for range n {
			modes = append(modes, uint16(mode))
		}
	}
	if len(modes) != count {
		return nil, errColumn
	}
	return modes, nil
}

func appendTimes(dst []byte, times []int64) []byte {
	if len(times) == 0 {
		return dst
	}
	table := slices.Clone(times)
	slices.Sort(table)
	table = slices.Compact(table)
	scale, unit := scaleOf(table)
	dst = binary.AppendUvarint(dst, uint64(scale))
	dst = binary.AppendUvarint(dst, uint64(len(table)))
	dst = binary.AppendVarint(dst, table[0]/unit)
	for i, t := range table[1:] {
		// Unsigned: the difference may be more than an int64 holds.
		dst = binary.AppendUvarint(dst, (uint64(t)-uint64(table[i]))/uint64(unit))
	}
	return appendPlaces(dst, times, table)
}

func appendPlaces(dst []byte, times, table []int64) []byte {
	places := make([]uint32, len(times))
	for i, t := range times {
		place, _ := slices.BinarySearch(table, t)
		places[i] = uint32(place)
	}
	var deltas []byte
	var before int64
	for _, p := range places {
		deltas = binary.AppendVarint(deltas, int64(p)-before)
		before = int64(p)
	}
	width := widthFor(len(table))
	if len(deltas) <= width*len(places) {
		return append(append(dst, 0), deltas...)
	}
	dst = append(dst, byte(width))
	for _, p := range places {
		var number [4]byte
		binary.LittleEndian.PutUint32(number[:], p)
		dst = append(dst, number[:width]...)
	}
	return dst
}

func widthFor(table int) int {
	switch {
	case table <= 1<<8:
		return 1
	case table <= 1<<16:
		return 2
	}
	return 4
}

func scaleOf(table []int64) (scale int, unit int64) {
	for scale, unit = 9, 1_000_000_000; unit > 1; scale, unit = scale-1, unit/10 {
		if !slices.ContainsFunc(table, func(t int64) bool { return t%unit != 0 }) {
			break
		}
	}
	return scale, unit
}

func parseTimes(b []byte, count int) ([]int64, error) {
	if len(b) == 0 {
		return nil, nil
	}
	c := column{b: b}
	scale, n := c.uvarint(), c.uvarint()
	// A time of the table takes a byte at least: that bounds what is allocated.
	if c.bad || scale > 9 || n == 0 || n > uint64(len(c.b)) || count > len(c.b) {
		return nil, errColumn
	}
	unit := int64(1)
	for range scale {
		unit *= 10
	}
	table := make([]int64, n)
	table[0] = c.varint() * unit
	for i := 1; i < len(table); i++ {
		table[i] = table[i-1] + int64(c.uvarint())*unit
	}
	times := make([]int64, count)
	width := c.byte()
	var place int64
	for i := range times {
		switch width {
		case 0:
			place += c.varint()
		case 1, 2, 4:
			place = c.number(int(width))
		default:
			return nil, errColumn
		}
		if c.bad || place < 0 || place >= int64(len(table)) {
			return nil, errColumn
		}
		times[i] = table[place]
	}
	if c.bad || len(c.b) > 0 {
		return nil, errColumn
	}
	return times, nil
}

// A column is read from the front. Reading past its end sets bad.
type column struct {
	b   []byte
	bad bool
}

func (c *column) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	return v * c.take(n)
}

func (c *column) varint() int64 {
	v, n := binary.Varint(c.b)
	return v * int64(c.take(n))
}

func (c *column) byte() byte { return byte(c.number(1)) }

func (c *column) number(width int) int64 {
	if len(c.b) < width {
		c.bad = true
		return 0
	}
	var number [4]byte
	copy(number[:], c.b[:width])
	c.b = c.b[width:]
	return int64(binary.LittleEndian.Uint32(number[:]))
}

// take drops n bytes, and returns 1, or 0 where there was nothing to read.
func (c *column) take(n int) uint64 {
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return 1
}
