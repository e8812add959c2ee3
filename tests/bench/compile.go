package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// source is a C file as there are many: a few system headers, one of its own,
// some work for the optimizer.
const source = `#include "own.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t table[256];

static void fill(void) {
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
		table[i] = c;
	}
}

uint32_t own_crc(const char *s) {
	uint32_t c = ~0u;
	if (!table[1]) fill();
	while (*s) c = table[(c ^ (unsigned char)*s++) & 255] ^ (c >> 8);
	return ~c;
}

int main(int argc, char **argv) {
	char *end;
	double sum = 0;
	for (int i = 1; i < argc; i++) {
		double x = strtod(argv[i], &end);
		if (errno == ERANGE || (*end && !isspace((unsigned char)*end))) return 1;
		sum += sqrt(fabs(x));
	}
	return printf("%s %f %u\n", NAME, sum, own_crc(argv[0])) < 0;
}
`

const header = `#include <stdint.h>
#ifndef NAME
#define NAME "own"
#endif
uint32_t own_crc(const char *s);
`

// A contender is one way to get an object file.
type contender struct {
	name    string
	command func(salt string) []string // salt: a macro, so that a miss is one
	miss    bool
	bare    bool // makes no object file
}

var gcc = []string{"gcc", "-O2", "-c", "a.c", "-o", "a.o"}

func with(before []string, after ...string) func(string) []string {
	return func(salt string) []string {
		var c []string
		c = append(append(c, before...), gcc...)
		c = append(c, after...)
		if salt != "" {
			c = append(c, salt)
		}
		return c
	}
}

func only(command ...string) func(string) []string {
	return func(string) []string { return command }
}

var contenders = []contender{
	{name: "true", command: only("true"), bare: true},
	{name: "gcc", command: with(nil)},
	{name: "ccache version", command: only("ccache", "--version"), bare: true},
	{name: "cache-tool version", command: only("cache-tool", "version"), bare: true},
	{name: "ccache hit", command: with([]string{"ccache"})},
	{name: "cache-tool hit, --depfile", command: with([]string{"cache-tool", "-q", "run", "--depfile", "a.d", "--out", "a.o", "--"}, "-MD", "-MF", "a.d")},
	{name: "cache-tool hit, --in", command: with([]string{"cache-tool", "-q", "run", "--in", "a.c", "--in", "own.h", "--out", "a.o", "--"})},
	{name: "ccache miss", miss: true, command: with([]string{"ccache"})},
	{name: "cache-tool miss, --depfile", miss: true, command: with([]string{"cache-tool", "-q", "run", "--depfile", "a.d", "--out", "a.o", "--"}, "-MD", "-MF", "a.d")},
	{name: "cache-tool miss, --in", miss: true, command: with([]string{"cache-tool", "-q", "run", "--in", "a.c", "--in", "own.h", "--out", "a.o", "--"})},
}

// compile runs each contender n times, one after the other in every round so
// that whatever else the machine does hits all alike. The object file is removed
// before each run.
func compile(ctx context.Context, file string, n int) error {
	dir, err := os.MkdirTemp("", "compile")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	work, err := os.MkdirTemp(dir, "project")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"a.c": source, "own.h": header} {
		path := filepath.Join(work, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			return err
		}
		// Files as old as those of a checkout. ccache takes none that are as new as its run.
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			return err
		}
	}
	env := append(os.Environ(), "HOME="+dir, "CCACHE_DIR="+filepath.Join(dir, "ccache"),
		"CACHE_TOOL_REPO="+filepath.Join(dir, "cache-tool"), "XDG_CACHE_HOME="+filepath.Join(dir, "xdg"))
	present := contenders[:0:0]
	for _, c := range contenders {
		if _, err := exec.LookPath(c.command("")[0]); err != nil {
			fmt.Printf("skip %s: not installed\n", c.name)
			continue
		}
		present = append(present, c)
	}
	var results []result
	for round := range n + 1 { // round 0 fills the caches
		for _, c := range present {
			salt := ""
			if c.miss {
				salt = "-DNAME=\"" + strconv.Itoa(round) + "-" + strings.ReplaceAll(c.name, " ", "-") + "\""
			}
			r, err := once(ctx, work, env, c, salt)
			if err != nil {
				return err
			}
			r.Rep = round
			if round > 0 {
				results = append(results, r)
			}
		}
	}
	return add(file, results...)
}

func once(ctx context.Context, dir string, env []string, c contender, salt string) (result, error) {
	r := result{Workload: "compile", Tool: c.name, Step: "run"}
	object := filepath.Join(dir, "a.o")
	if err := os.Remove(object); err != nil && !errors.Is(err, os.ErrNotExist) {
		return r, err
	}
	args := c.command(salt)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var errs strings.Builder
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, io.Discard, &errs
	began := time.Now()
	err := cmd.Run()
	r.Wall = time.Since(began)
	if err != nil {
		return r, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	r.usage(cmd.ProcessState)
	if !c.bare {
		if _, err := os.Stat(object); err != nil {
			return r, fmt.Errorf("%s made no object file: %w", strings.Join(args, " "), err)
		}
	}
	return r, nil
}
