package simulate

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// A Table is what is shown of a scenario.
type Table struct {
	Title string
	Head  []string
	Rows  [][]string
}

// add adds a row.
func (t *Table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = shown(c)
	}
	t.Rows = append(t.Rows, row)
}

func shown(cell any) string {
	switch c := cell.(type) {
	case time.Duration:
		return fmt.Sprintf("%.2f", c.Seconds())
	case float64:
		return fmt.Sprintf("%.2f", c)
	}
	return fmt.Sprint(cell)
}

// Print writes the table in Markdown.
func (t *Table) Print(w io.Writer) {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string) {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				cell += pad
			} else {
				cell = pad + cell
			}
			fmt.Fprintf(w, "| %s ", cell)
		}
		fmt.Fprintln(w, "|")
	}
	fmt.Fprintf(w, "\n%s\n\n", t.Title)
	line(t.Head)
	for i, n := range widths {
		rule := strings.Repeat("-", n+1) + ":"
		if i == 0 {
			rule = strings.Repeat("-", n+2)
		}
		fmt.Fprintf(w, "|%s", rule)
	}
	fmt.Fprintln(w, "|")
	for _, row := range t.Rows {
		line(row)
	}
}

// CSV writes the table for programs, the title in the first column.
func (t *Table) CSV(w io.Writer) error {
	c := csv.NewWriter(w)
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		if err := c.Write(append([]string{t.Title}, row...)); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// size shows bytes.
func size(n float64) string {
	for _, unit := range []struct {
		bytes float64
		name  string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.*f %s", places(n/unit.bytes), n/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%.0f B", n)
}

func places(n float64) int {
	if n < 10 {
		return 1
	}
	return 0
}

// number shows a number in thousands.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
