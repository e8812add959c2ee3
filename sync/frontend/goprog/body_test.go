package goprog

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBody(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 4, 5, 1000, 48<<10 - 1, 48 << 10, 48<<10 + 1, 300_000} {
		want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
		line := "\n\n\"" + base64.StdEncoding.EncodeToString(want) + "\"\n"
		if size == 0 {
			line = ""
		}
		for name, from := range map[string]func(io.Reader) io.Reader{
			"as it is": func(r io.Reader) io.Reader { return r },
			"in bytes": iotest.OneByteReader,
			"in parts": iotest.HalfReader,
		} {
			b := &body{in: bufio.NewReader(from(strings.NewReader(line + "next")))}
			if err := b.begin(int64(size)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(from(b))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes %s: %d bytes, %v", size, name, len(got), err)
			}
			rest, _ := io.ReadAll(b.in)
			if strings.TrimSpace(string(rest)) != "next" {
				t.Errorf("%d bytes %s: %.20q is left", size, name, rest)
			}
		}
	}
}

// What is no base 64 is passed over up to its end; one that has none is an error.
func TestBodyDamaged(t *testing.T) {
	for _, in := range []string{`"AAA"`, `"AAAA!AAA"`, `"A===AAAA"`, `"` + strings.Repeat("AAAA", 100_000) + `A"`} {
		b := &body{in: bufio.NewReader(strings.NewReader(in + "next"))}
		if err := b.begin(3); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, b); err == nil {
			t.Errorf("%.20s: no error", in)
		}
		if err := b.skip(); err != nil {
			t.Errorf("%.20s: %v", in, err)
		}
		if rest, _ := io.ReadAll(b.in); string(rest) != "next" {
			t.Errorf("%.20s: %.20q is left", in, rest)
		}
	}
	b := &body{in: bufio.NewReader(strings.NewReader(`"AAAA`))}
	if err := b.begin(3); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, b); err != io.ErrUnexpectedEOF {
		t.Errorf("cut short: %v", err)
	}
}
