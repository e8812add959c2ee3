package dune

import "testing"

// The official test vectors, their first 128 bits: the input is 0, 1, … 250, 0, 1, ….
var blake3Vectors = []struct {
	size int
	want string
}{
	{0, "af1349b9f5f9a1a6a0404dea36dcc949"},
	{1, "2d3adedff11b61f14c886e35afa03673"},
	{1023, "10108970eeda3eb932baac1428c7a216"},
	{1024, "42214739f095a406f3fc83deb889744a"},
	{1025, "d00278ae47eb27b34faecf67b4fe263f"},
	{2048, "e776b6028c7cd22a4d0ba182a8bf6220"},
	{2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3"},
	{3072, "b98cb0ff3623be03326b373de6b90952"},
	{3073, "7124b49501012f81cc7f11ca069ec922"},
	{4096, "015094013f57a5277b59d8475c050104"},
	{4097, "9b4052b38f1c5fc8b1f9ff7ac7b27cd2"},
	{5120, "9cadc15fed8b5d854562b26a9536d970"},
	{5121, "628bd2cb2004694adaab7bbd778a25df"},
	{6144, "3e2e5b74e048f3add6d21faab3f83aa4"},
	{6145, "f1323a8631446cc50536a9f705ee5cb6"},
	{7168, "61da957ec2499a95d6b8023e2b0e604e"},
	{7169, "a003fc7a51754a9b3c7fae0367ab3d78"},
	{8192, "aae792484c8efe4f19e2ca7d371d8c46"},
	{8193, "bab6c09cb8ce8cf459261398d2e7aef3"},
	{16384, "f875d6646de28985646f34ee13be9a57"},
	{31744, "62b6960e1a44bcc1eb1a611a8d6235b6"},
	{100000, "d93c23eedaf165a7e0be908ba86f1a7a"},
}

func TestBlake3(t *testing.T) {
	for _, v := range blake3Vectors {
		input := make([]byte, v.size)
		for i := range input {
			input[i] = byte(i % 251)
		}
		for _, piece := range []int{1, 63, 64, 65, 1000, 1 << 20} {
			h := newBlake3()
			for rest := input; len(rest) > 0; {
				n := min(piece, len(rest))
				h.Write(rest[:n])
				rest = rest[n:]
			}
			if got := h.sum().String(); got != v.want {
				t.Errorf("%d bytes, %d at a time: %s, want %s", v.size, piece, got, v.want)
			}
			if got := h.sum().String(); got != v.want {
				t.Errorf("%d bytes: the second sum is %s", v.size, got)
			}
		}
	}
}

func BenchmarkNames(b *testing.B) {
	body := make([]byte, 1<<20)
	for _, h := range []hashing{byMD5, byBlake3} {
		b.Run(string(h), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				n := h.namer()
				n.Write(body)
				n.name(false)
			}
		})
	}
}
