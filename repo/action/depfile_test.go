package action

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseDepfile(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"empty", "", nil},
		{"blank", " \n\t\n", nil},
		{"one", "a.o: a.c\n", []string{"a.c"}},
		{"no newline at the end", "a.o: a.c", []string{"a.c"}},
		{"continued", "a.o: a.c \\\n a.h \\\n b.h\n", []string{"a.c", "a.h", "b.h"}},
		{"continued right after the name", "a.o: a.c\\\n a.h\n", []string{"a.c", "a.h"}},
		{"continued after the colon", "a.o:\\\n a.c\n", []string{"a.c"}},
		{"carriage returns", "a.o: a.c \\\r\n a.h\r\n", []string{"a.c", "a.h"}},
		{"several targets", "a.o a.d: a.c\n", []string{"a.c"}},
		{"several rules", "a.o: a.c a.h\nb.o: b.c a.h\n", []string{"a.c", "a.h", "b.c"}},
		{"phony targets", "a.o: a.c a.h\n\na.h:\n", []string{"a.c", "a.h"}},
		{"space", `a.o: my\ file.c other.c`, []string{"my file.c", "other.c"}},
		{"tab", "a.o: my\\\tfile.c", []string{"my\tfile.c"}},
		{"backslash then space", `a.o: a\\\ b.c`, []string{`a\ b.c`}},
		{"backslashes that end a name", `a.o: a\\ b.c`, []string{`a\`, "b.c"}},
		{"hash", `a.o: a\#b.c`, []string{"a#b.c"}},
		{"dollar", "a.o: a$$b.c a$b.c", []string{"a$b.c"}},
		{"other backslashes", `c:\out\a.o: c:\src\a.c`, []string{`c:\src\a.c`}},
		{"colon in a prerequisite", "a.o: a:b.h a: c.h", []string{"a:b.h", "a:", "c.h"}},
		{"space before the colon", "a.o : a.c", []string{"a.c"}},
		{"escaped target", `my\ a.o: a.c`, []string{"a.c"}},
		{"rustc", "out/x: src/main.rs\n\nsrc/main.rs:\n\n# env-dep:A=b c: d\n", []string{"src/main.rs"}},
		{"repeated", "a.o: a.h a.h", []string{"a.h"}},
	} {
		got, err := ParseDepfile([]byte(tt.in))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: ParseDepfile(%q) = %q, %v, want %q", tt.name, tt.in, got, err, tt.want)
		}
	}
	for _, bad := range []string{"a.o a.c\n", "a.o", "x: y\nno colon\n"} {
		if got, err := ParseDepfile([]byte(bad)); !errors.Is(err, ErrBadDepfile) {
			t.Errorf("ParseDepfile(%q) = %q, %v, want %v", bad, got, err, ErrBadDepfile)
		}
	}
}

// escapeDep writes a name as gcc does.
func escapeDep(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; c {
		case ' ', '\t':
			for j := i - 1; j >= 0 && name[j] == '\\'; j-- {
				b.WriteByte('\\')
			}
			b.WriteByte('\\')
		case '$':
			b.WriteByte('$')
		case '#':
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

func FuzzParseDepfile(f *testing.F) {
	for _, seed := range []string{"a.o: a.c \\\n a.h\n\na.h:\n", `x: a\ b c\\\ d $$ \#`, "a\\", "a: \\", "a:\\\n", "\\\n:", "a: b\\\\\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		names, err := ParseDepfile(text)
		if err != nil {
			return
		}
		// What can be written as gcc writes it comes back the same.
		rule := "t:"
		var want []string
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, "\n\r") || strings.HasSuffix(name, `\`) || strings.Contains(name, `\#`) {
				continue
			}
			want = append(want, name)
			rule += " \\\n  " + escapeDep(name)
		}
		got, err := ParseDepfile([]byte(rule + "\n"))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseDepfile(%q) = %q, %v, want %q", rule, got, err, want)
		}
	})
}
