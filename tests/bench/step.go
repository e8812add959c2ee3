package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A result is one row of the results: a step that was timed, or a size.
type result struct {
	Workload, Tool, Step string
	Rep                  int
	Wall, CPU            time.Duration // CPU is user and system, children included
	Peak                 int64         // bytes of memory of the biggest process
	Others               time.Duration // CPU that other processes took meanwhile
	Size                 int64         // bytes, for sizes; or what was counted
	Code                 int           // exit code
}

func (r result) row() []string {
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 3, 64) }
	return []string{r.Workload, r.Tool, r.Step, strconv.Itoa(r.Rep), ms(r.Wall), ms(r.CPU),
		strconv.FormatInt(r.Peak, 10), ms(r.Others), strconv.FormatInt(r.Size, 10), strconv.Itoa(r.Code)}
}

func parseRow(row []string) (r result, err error) {
	if len(row) != 10 {
		return r, fmt.Errorf("row of %d columns", len(row))
	}
	ms := func(s string) time.Duration {
		f, e := strconv.ParseFloat(s, 64)
		err = errors.Join(err, e)
		return time.Duration(f * 1e6)
	}
	number := func(s string) int64 {
		n, e := strconv.ParseInt(s, 10, 64)
		err = errors.Join(err, e)
		return n
	}
	r = result{Workload: row[0], Tool: row[1], Step: row[2], Rep: int(number(row[3])), Wall: ms(row[4]), CPU: ms(row[5]),
		Peak: number(row[6]), Others: ms(row[7]), Size: number(row[8]), Code: int(number(row[9]))}
	return r, err
}

// add appends rows to the file.
func add(file string, results ...result) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	for _, r := range results {
		if err := w.Write(r.row()); err != nil {
			return err
		}
	}
	w.Flush()
	return errors.Join(w.Error(), f.Close())
}

func read(file string) ([]result, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var results []result
	for i, row := range rows {
		r, err := parseRow(row)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// size adds up the files below paths, each inode once.
func (r *result) size(paths []string) error {
	seen := map[[2]uint64]bool{}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			fi, err := e.Info()
			if err != nil {
				return err
			}
			st := fi.Sys().(*syscall.Stat_t)
			if at := [2]uint64{st.Dev, st.Ino}; !seen[at] {
				seen[at] = true
				r.Size += fi.Size()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// time runs a command once, as soon as the machine is quiet. What it prints goes
// to standard error. That it fails is part of the result.
func (r *result) time(ctx context.Context, command []string) error {
	syscall.Sync()
	waitForQuiet(ctx)
	before := busy()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stderr, os.Stderr
	began := time.Now()
	err := c.Run()
	r.Wall = time.Since(began)
	if c.ProcessState == nil {
		return err
	}
	r.usage(c.ProcessState)
	r.Others = max(0, busy()-before-r.CPU)
	return ctx.Err()
}

func (r *result) usage(p *os.ProcessState) {
	r.CPU = p.UserTime() + p.SystemTime()
	r.Code = p.ExitCode()
	if u, ok := p.SysUsage().(*syscall.Rusage); ok {
		r.Peak = u.Maxrss << 10
	}
}

// waitForQuiet waits until others leave most of the machine idle for a second,
// but not longer than $QUIET seconds, or 8.
func waitForQuiet(ctx context.Context) {
	most := 8
	if n, err := strconv.Atoi(os.Getenv("QUIET")); err == nil {
		most = n
	}
	for range most {
		before := busy()
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if busy()-before <= 250*time.Millisecond {
			return
		}
	}
}

// busy returns the time that all processors have worked since the machine was
// started: neither idle nor waiting for a disk.
func busy() time.Duration {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var ticks int64
	for i, field := range strings.Fields(line) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err == nil && i <= 8 && i != 4 && i != 5 {
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}
