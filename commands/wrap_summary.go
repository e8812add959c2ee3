package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/repo/action"
)

// A wrapSummary is what a wrapped build came to.
type wrapSummary struct {
	runStats

	entries       int   // committed
	served        int64 // bytes, to build tools
	fetched, sent int64 // bytes, from the remote and to it
	pushed        bool
}

// count adds up what the runs and the build tools were answered.
func (w *wrapped) count() {
	runs, err := action.LogSince(w.repo.Dir, w.runs)
	if err != nil {
		w.s.warn("%v", err)
	}
	for _, run := range runs {
		w.sum.add(run)
	}
	if w.gateway != nil {
		c := w.gateway.Stats()
		w.sum.Hits += c.Hits
		w.sum.Misses += c.Misses
		w.sum.served = c.Bytes
	}
	w.sum.fetched += w.s.fetched.Load()
}

// tell prints a line about the build, and writes a table for the page of the job where
// the service has one.
func (w *wrapped) tell() {
	if !w.s.quiet {
		fmt.Fprintf(w.s.err, "%s%s: %s\n", programName, prefix(w.s.verb), w.sum.line(w.branch.Short(), w.remote.name))
	}
	page := os.Getenv("GITHUB_STEP_SUMMARY")
	if page == "" {
		return
	}
	f, err := os.OpenFile(page, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err == nil {
		_, err = f.WriteString(w.sum.table(filepath.Base(w.typed.args[0]), w.branch.Short()))
		f.Close()
	}
	if err != nil {
		w.s.warn("the summary of the step: %v", err)
	}
}

// line is the summary for people who read logs.
func (sum wrapSummary) line(branch, remote string) string {
	parts := []string{fmt.Sprintf("%s, %s%s", counted(sum.Hits, "hit"), plural(sum.Misses, "miss", "misses"), sum.rate())}
	if sum.Uncached > 0 {
		parts = append(parts, fmt.Sprintf("%d not cached", sum.Uncached))
	}
	if d := sum.saved(); d >= 10*time.Millisecond {
		parts = append(parts, shortly(d)+" saved")
	}
	if sum.served > 0 {
		parts = append(parts, size(sum.served)+" from the cache")
	}
	if sum.fetched > 0 {
		parts = append(parts, size(sum.fetched)+" fetched")
	}
	if sum.entries > 0 {
		parts = append(parts, fmt.Sprintf("%s new on %s", counted(sum.entries, "entry"), shown(branch)))
	}
	if sum.pushed {
		parts = append(parts, fmt.Sprintf("%s pushed to %s", size(sum.sent), shown(remote)))
	}
	return strings.Join(parts, ", ")
}

func (sum wrapSummary) rate() string {
	if sum.Hits+sum.Misses == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.0f %%)", 100*float64(sum.Hits)/float64(sum.Hits+sum.Misses))
}

// table is the summary in Markdown.
func (sum wrapSummary) table(command, branch string) string {
	code := func(s string) string { return "`" + strings.NewReplacer("`", "'", "|", "/").Replace(shown(s)) + "`" }
	return fmt.Sprintf("\n**cache-tool**: %s on %s\n\n"+
		"| hits | misses | time saved | fetched | new entries | pushed |\n|---|---|---|---|---|---|\n| %d%s | %d | %s | %s | %d | %s |\n",
		code(command), code(branch), sum.Hits, sum.rate(), sum.Misses, shortly(sum.saved()), size(sum.fetched), sum.entries, size(sum.sent))
}

// shortly writes how long something took, for people.
func shortly(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
