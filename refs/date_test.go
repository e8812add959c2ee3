package refs

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dates are read as Git reads them. (Noon depends on whether it is past noon:
// Git's "yesterday noon" in the morning is the day before.)
var dates = []string{
	"now", "today", "yesterday", "2 days ago", "2.days.ago", "1.week.2.days.ago", "1 hour", "one hour ago", "ten minutes ago",
	"30 seconds ago", "30.seconds.ago", "1 month ago", "3 months ago", "14 months ago", "1 year ago", "2 years 3 months ago", "last week", "last month",
	"last monday", "last sunday", "last sun", "2 fridays ago",
	"2026-01-31", "2026/01/31", "2026.01.31", "31.01.2026", "2026-1-5", "2024-02-29",
	"2026-01-31 15:04", "2026-01-31 15:04:05", "2026-01-31 15:04:05 +0200", "2026-01-31T15:04:05Z", "2026-01-31T15:04:05+02:00", "2026-01-31T15:04",
	"2026-01-31 3pm", "yesterday 15:04", "yesterday 3pm", "15:04",
	"jan 5", "dec 24", "24 dec", "5 jan 2024", "Jan 5 2024", "January 5, 2024", "31 Jan 2026 15:04:05",
	"Sat, 31 Jan 2026 15:04:05 +0100", "Sat Jan 31 15:04:05 2026 +0100",
	"@1700000000", "1700000000", "1700000000 +0300", "20260131T150405",
}

func TestParseDateAsGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git: apt-get install git")
	}
	dir := t.TempDir()
	if out, err := exec.Command(git, "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, now := range []int64{1769950000, 1769990000, 1774900000, 1782864000} {
		here := time.Unix(now, 0).In(time.FixedZone("", 3600))
		for _, s := range dates {
			cmd := exec.Command(git, "-C", dir, "rev-parse", "--since="+s)
			cmd.Env = append(os.Environ(), "TZ=XXX-1", fmt.Sprintf("GIT_TEST_DATE_NOW=%d", now))
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			gits, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(string(out), "--max-age=")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseDate(s, here)
			if err != nil || got.Unix() != gits {
				t.Errorf("%q is %v, %v; Git says %v", s, got, err, time.Unix(gits, 0).In(here.Location()))
			}
		}
	}
}

func TestParseDateRefuses(t *testing.T) {
	now := time.Unix(1769950000, 0)
	for _, s := range []string{"", " ", "u", "upstream", "-1", "garbage", "10", "2026-13-45", "2026-02-30", "noon", "5 apples ago", "two", "31 feb 2026 x", "@x", "99999999999999999999"} {
		if got, err := ParseDate(s, now); err == nil {
			t.Errorf("ParseDate(%q) = %v", s, got)
		}
	}
}

func FuzzParseDate(f *testing.F) {
	for _, s := range dates {
		f.Add(s, int64(1769950000))
	}
	f.Fuzz(func(t *testing.T, s string, now int64) {
		_, _ = ParseDate(s, time.Unix(now%1e11, 0).UTC())
	})
}
