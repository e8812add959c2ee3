package refs

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cache-tool/cache-tool/objects"
)

func TestName(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"refs/heads/main", true},
		{"refs/heads/a/b.c/d-e_f", true},
		{"refs/heads/ü\xff", true},
		{"refs/heads/@", true},
		{"refs/heads/a@b", true},
		{"refs/heads/-a", true},
		{"refs/heads/tmp-1", true},
		{"", false},
		{"main", false},
		{"refs/heads", false}, // Git takes it
		{"heads/main", false},
		{"refs/heads/", false},
		{"refs/heads//a", false},
		{"refs//a", false},
		{"/refs/heads/a", false},
		{"refs/heads/a..b", false},
		{"refs/heads/.a", false},
		{"refs/heads/a.", false},
		{"refs/heads/a./b", true},
		{"refs/heads/a.lock", false},
		{"refs/heads/a.lock/b", false},
		{"refs/heads/a@{b", false},
		{"refs/heads/a b", false},
		{"refs/heads/a~b", false},
		{"refs/heads/a^", false},
		{"refs/heads/a:b", false},
		{"refs/heads/a?", false},
		{"refs/heads/a*", false},
		{"refs/heads/[a", false},
		{"refs/heads/a\\b", false},
		{"refs/heads/a\x01", false},
		{"refs/heads/a\x7f", false},
		{"refs/heads/a\n", false},
		{"refs/heads/" + strings.Repeat("a", 256), false}, // no file system takes it
	} {
		name, err := ParseName(tt.name)
		if (err == nil) != tt.ok || tt.ok && string(name) != tt.name {
			t.Errorf("ParseName(%q) = %q, %v", tt.name, name, err)
		}
	}
}

// FuzzName asks Git.
func FuzzName(f *testing.F) {
	for _, s := range []string{"refs/heads/main", "refs/heads/a/b", "refs/heads/.a", "refs/x/@", "refs/a/b.lock"} {
		f.Add(s)
	}
	git, err := exec.LookPath("git")
	if err != nil {
		f.Skip(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ours := Name(s).Check() == nil
		if strings.Contains(s, "\x00") || strings.HasPrefix(s, "-") {
			if ours {
				t.Errorf("%q passes", s)
			}
			return
		}
		gits := exec.Command(git, "check-ref-format", s).Run() == nil
		own := !strings.HasPrefix(s, "refs/") || strings.Count(s, "/") < 2 || len(s) > 255
		if ours && !gits || gits && !ours && !own {
			t.Errorf("%q: we say %v, Git says %v", s, ours, gits)
		}
	})
}

var sampleEntry = LogEntry{
	New:    objects.ID{1},
	Who:    objects.Signature{Name: "A U Thor", Email: "a@example.com", When: time.Unix(1700000000, 0).In(time.FixedZone("", -5400))},
	Reason: "commit: first",
}

func TestLogEntry(t *testing.T) {
	const want = "0000000000000000000000000000000000000000000000000000000000000000 " +
		"0100000000000000000000000000000000000000000000000000000000000000 " +
		"A U Thor <a@example.com> 1700000000 -0130\tcommit: first\n"
	if got := string(sampleEntry.encode()); got != want {
		t.Errorf("encoded as %q, want %q", got, want)
	}
	hostile := sampleEntry
	hostile.Who.Name, hostile.Who.Email = "a\tb\n<", "c>\td"
	hostile.Reason = "one\ntwo\r\n\tthree\x00" + strings.Repeat("ü", maxReason)
	if got := hostile.encode(); bytes.Count(got, []byte("\n")) != 1 || bytes.Count(got, []byte("\t")) != 1 {
		t.Errorf("more than one line: %q", got)
	}
	entries, skipped := ParseLog(append(hostile.encode(), sampleEntry.encode()...))
	if len(entries) != 2 || skipped != 0 {
		t.Errorf("read %d, skipped %d", len(entries), skipped)
	}
}

func TestParseLogSkips(t *testing.T) {
	line := sampleEntry.encode()
	for i := range len(line) {
		for _, after := range []string{"", "\n"} {
			data := bytes.Join([][]byte{line, line[:i], []byte(after)}, nil)
			entries, _ := ParseLog(append(data, line...))
			if after == "\n" && len(entries) < 2 || len(entries) < 1 {
				t.Errorf("cut at %d: %d entries are left", i, len(entries))
			}
			entries, skipped := ParseLog(append(line[:len(line):len(line)], line[:i]...))
			if len(entries) != 1 || i > 0 && skipped != 1 {
				t.Errorf("cut at %d: %d entries, %d skipped", i, len(entries), skipped)
			}
		}
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add(sampleEntry.encode())
	f.Add(append(sampleEntry.encode(), "cut"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, _ := ParseLog(data)
		for _, e := range entries {
			again, skipped := ParseLog(e.encode())
			if skipped != 0 || len(again) != 1 || again[0].New != e.New || again[0].Who.When.Unix() != e.Who.When.Unix() {
				t.Errorf("%+v\nbecomes %+v", e, again)
			}
		}
	})
}

func FuzzParseJournal(f *testing.F) {
	j := journal{{"refs/heads/main", sampleEntry}, {"refs/heads/a/b", LogEntry{Old: objects.ID{2}, Who: sampleEntry.Who}}}
	f.Add(j.encode(), true)
	f.Add(journal(nil).encode(), true)
	f.Add([]byte{}, false)
	f.Add([]byte("cache-tool refs journal 1\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal && len(data) > 9 { // otherwise nothing gets past the checksum
			data = sealJournal(data[:len(data)-9])
		}
		j, err := parseJournal(data)
		if err != nil {
			return
		}
		for _, m := range j {
			if err := m.name.Check(); err != nil {
				t.Error(err)
			}
		}
		again, err := parseJournal(j.encode())
		if err != nil || len(again) != len(j) {
			t.Errorf("%v: %+v\nbecomes %+v", err, j, again)
		}
	})
}

func TestJournal(t *testing.T) {
	j := journal{{"refs/heads/main", sampleEntry}, {"refs/heads/a/b", LogEntry{Old: objects.ID{2}, Who: sampleEntry.Who}}}
	data := j.encode()
	got, err := parseJournal(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]move(j), []move(got), cmp.AllowUnexported(move{}), cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
	for i := range len(data) - 1 {
		if _, err := parseJournal(data[:i+1]); err == nil {
			t.Errorf("cut to %d bytes it passes", i+1)
		}
		flipped := bytes.Clone(data)
		flipped[i] ^= 4
		if _, err := parseJournal(flipped); err == nil {
			t.Errorf("with byte %d changed it passes", i)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add([]byte(objects.ID{1}.String() + "\n"))
	f.Add([]byte("ref: refs/heads/main\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, reason := parseRef(data)
		if (reason == "") == id.IsZero() {
			t.Errorf("parseRef(%q) = %s, %q", data, id, reason)
		}
	})
}
