package gitwire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/objects"
)

// request makes a request of lines; those that stand for themselves may be among them.
func request(lines ...string) string {
	var b []byte
	for _, line := range lines {
		if line == Flush || line == Delimiter {
			b = append(b, line...)
		} else {
			b = AppendLine(b, "%s", line)
		}
	}
	return string(b)
}

const format = "object-format=sha256"

var (
	a = objects.Sum(objects.Blob, []byte("a"))
	b = objects.Sum(objects.Blob, []byte("b"))
)

func TestParseRequest(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Request
	}{
		{request("command=ls-refs", format, Flush), Request{List: &List{}}},
		{request("command=ls-refs", "agent=git/2.39", format, Delimiter, "peel", "symrefs", "unborn", "ref-prefix HEAD", "ref-prefix refs/heads/", Flush),
			Request{List: &List{Peel: true, Symrefs: true, Unborn: true, Prefixes: []string{"HEAD", "refs/heads/"}}}},
		{request("command=fetch", format, Delimiter, "thin-pack", "ofs-delta", "include-tag", "no-progress", "want "+a.String(), "have "+b.String(), "done", Flush),
			Request{Fetch: &Fetch{Want: []objects.ID{a}, Have: []objects.ID{b}, Done: true, IncludeTag: true, NoProgress: true}}},
		{request("command=fetch", format, Delimiter, "want "+a.String(), "shallow "+b.String(), "deepen 3", "deepen-relative", "filter blob:none", Flush),
			Request{Fetch: &Fetch{Want: []objects.ID{a}, Shallow: []objects.ID{b}, Depth: 3, Relative: true, Filter: Filter{Blobs: true}}}},
		{request("command=fetch", format, Delimiter, "deepen-since 1000", "filter blob:limit=1024", Flush),
			Request{Fetch: &Fetch{Since: time.Unix(1000, 0), Filter: Filter{Blobs: true, HasLimit: true, Limit: 1024}}}},
		// Lines need no line feed.
		{"0013command=ls-refs0018" + format + "0000", Request{List: &List{}}},
	} {
		got, err := ParseRequest(strings.NewReader(tt.in))
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
		} else if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q: %s", tt.in, d)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, in := range []string{
		"", "0", "000", "zzzz", "0003", "0002", "fff1", "0009comm", Flush, Delimiter,
		request("command=ls-refs", Flush),                                        // of SHA-1
		request("command=ls-refs", "object-format=sha1", Flush),                  //
		request("command=ls-refs", format),                                       // no end
		request("command=ls-refs", format, Flush, "peel"),                        // and more
		request("command=ls-refs", format, Delimiter, "peel", Delimiter, Flush),  //
		request("command=ls-refs", format, Delimiter, "want "+a.String(), Flush), //
		request("command=object-info", format, Flush),
		request(format, Flush),
		request("command=fetch", format, Delimiter, "want 1234", Flush),
		request("command=fetch", format, Delimiter, "want", Flush),
		request("command=fetch", format, Delimiter, "want-ref refs/heads/main", Flush),
		request("command=fetch", format, Delimiter, "deepen 0", Flush),
		request("command=fetch", format, Delimiter, "deepen 99999999999", Flush),
		request("command=fetch", format, Delimiter, "deepen-since -1", Flush),
		request("command=fetch", format, Delimiter, "deepen-not refs/heads/main", Flush),
		request("command=fetch", format, Delimiter, "filter sparse:oid="+a.String(), Flush),
		request("command=fetch", format, Delimiter, "filter blob:limit=-1", Flush),
	} {
		if q, err := ParseRequest(strings.NewReader(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseRequest(%q) = %v, %v", in, q, err)
		}
	}
}

// What breaks while it is read is no fault of the request.
func TestBrokenReader(t *testing.T) {
	broken := errors.New("broken")
	in := request("command=ls-refs", format, Flush)
	for n := range len(in) + 1 {
		r := io.MultiReader(strings.NewReader(in[:n]), errReader{broken})
		if _, err := ParseRequest(r); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(request("command=ls-refs", format, Delimiter, "peel", "ref-prefix refs/", Flush)))
	f.Add([]byte(request("command=fetch", format, Delimiter, "want "+a.String(), "have "+b.String(), "deepen 1", "filter blob:none", "done", Flush)))
	f.Add([]byte("0004" + Flush))
	f.Add([]byte("fff0"))
	f.Fuzz(func(t *testing.T, in []byte) {
		q, err := ParseRequest(bytes.NewReader(in))
		switch {
		case err != nil && !errors.Is(err, ErrMalformed):
			t.Errorf("%v", err)
		case err == nil && (q.List == nil) == (q.Fetch == nil):
			t.Errorf("%+v is no request", q)
		case q.Fetch != nil && len(q.Fetch.Want)+len(q.Fetch.Have)+len(q.Fetch.Shallow) > len(in)/objects.IDSize:
			t.Errorf("more ids than fit into %d bytes", len(in))
		}
	})
}

// However a pack comes in, it goes out in lines of full length, each in one piece.
func TestPackWriter(t *testing.T) {
	pack := bytes.Repeat([]byte("0123456789"), 20000)
	for _, step := range []int{1, 1000, maxLine - 5, maxLine, len(pack)} {
		var out pieces
		w := NewPackWriter(&out)
		for rest := pack; len(rest) > 0; {
			n := min(step, len(rest))
			if got, err := w.Write(rest[:n]); got != n || err != nil {
				t.Fatal(got, err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, piece := range out[:len(out)-1] {
			l := lineReader{r: bytes.NewReader(piece)}
			if _, _, err := l.next(); err != nil || piece[4] != bandPack {
				t.Fatalf("%.20q: %v", piece, err)
			}
			got = append(got, piece[5:]...)
		}
		if end := string(out[len(out)-1]); !bytes.Equal(got, pack) || end != Flush {
			t.Errorf("in steps of %d: %d bytes and %q, want %d", step, len(got), end, len(pack))
		}
	}
}

type pieces [][]byte

func (p *pieces) Write(b []byte) (int, error) {
	*p = append(*p, bytes.Clone(b))
	return len(b), nil
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, line := range [][]byte{Refusal(long), Progress(long), Failure(long)} {
		l := lineReader{r: bytes.NewReader(line)}
		kind, _, err := l.next()
		if _, _, end := l.next(); kind != data || err != nil || end != io.EOF {
			t.Errorf("%.20q: %v, %v", line, err, end)
		}
	}
}
