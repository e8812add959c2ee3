package commands

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestArrange(t *testing.T) {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "base"},
		&cli.StringSliceFlag{Name: "exclude"},
		&cli.StringFlag{Name: "message", Aliases: []string{"m"}},
		&cli.IntFlag{Name: "n"},
		&cli.BoolFlag{Name: "stage"},
		&cli.BoolFlag{Name: "long", Aliases: []string{"l"}},
		&cli.BoolFlag{Name: "R"},
	}
	for _, tt := range []struct{ line, flags, arguments, problem string }{
		{line: "key a b --stage", flags: "--stage", arguments: "key a b"},
		{line: "--base x key", flags: "--base=x", arguments: "key"},
		{line: "key --base=x a", flags: "--base=x", arguments: "key a"},
		{line: "key --base --stage", flags: "--base=--stage", arguments: "key"},
		{line: "--base= key", flags: "--base=", arguments: "key"},
		{line: "-lR key", flags: "--long -R", arguments: "key"},
		{line: "-lmwhy key", flags: "--long --message=why", arguments: "key"},
		{line: "key -m why", flags: "--message=why", arguments: "key"},
		{line: "key -m a --message b", flags: "--message=a --message=b", arguments: "key"},
		{line: "key -n5 -7", flags: "-n=5 -n=7", arguments: "key"},
		{line: "key - a", arguments: "key - a"},
		{line: "key -- --stage -- x", arguments: "key --stage -- x"},
		{line: "--exclude a,b --exclude c", flags: "--exclude=a,b --exclude=c"},
		{line: "key --bsae x", problem: `unknown flag "--bsae"`},
		{line: "key -x", problem: `unknown flag "-x"`},
		{line: "key --l", problem: `unknown flag "--l"`},
		{line: "key --base", problem: "flag --base wants a value"},
		{line: "--nothing-like-it", problem: "unknown flag"},
	} {
		given, arguments, _, err := arrange(strings.Fields(tt.line), flags, flagsAnywhere)
		if tt.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("arrange(%q): error %v, want %s", tt.line, err, tt.problem)
			}
			continue
		}
		if err != nil {
			t.Errorf("arrange(%q): %v", tt.line, err)
			continue
		}
		if got := strings.Join(given.words(), " "); got != tt.flags {
			t.Errorf("arrange(%q): flags %q, want %q", tt.line, got, tt.flags)
		}
		if got := strings.Join(arguments, " "); got != tt.arguments {
			t.Errorf("arrange(%q): arguments %q, want %q", tt.line, got, tt.arguments)
		}
	}
}

func TestArrangeStopsAtACommand(t *testing.T) {
	flags := []cli.Flag{&cli.StringSliceFlag{Name: "out"}, &cli.BoolFlag{Name: "v"}}
	given, arguments, _, err := arrange(strings.Fields("--out a.o gcc -c -v --out b a.c"), flags, flagsFirst)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(given.words(), " "), "--out=a.o"; got != want {
		t.Errorf("flags %q, want %q", got, want)
	}
	if got, want := strings.Join(arguments, " "), "gcc -c -v --out b a.c"; got != want {
		t.Errorf("arguments %q, want %q", got, want)
	}
}

func TestUnknownFlagNamesTheNearest(t *testing.T) {
	flags := []cli.Flag{&cli.StringFlag{Name: "exclude"}, &cli.BoolFlag{Name: "stage"}}
	_, _, _, err := arrange([]string{"--exlude=x"}, flags, flagsAnywhere)
	if got := hintsOf(err); len(got) != 1 || got[0] != `did you mean "--exclude"?` {
		t.Errorf("hints %q", got)
	}
	_, _, _, err = arrange([]string{"--frobnicate"}, flags, flagsAnywhere)
	if got := hintsOf(err); len(got) != 0 {
		t.Errorf("hints %q for a flag that is near nothing", got)
	}
}

// Written out and read again, flags and arguments are what they were.
func FuzzArrange(f *testing.F) {
	for _, line := range []string{"key a --stage", "--base=x -m y key", "-lR -n5 --", "-- -x", "--base", "-", "--=", "-l=x", "--stage=false -7"} {
		f.Add(line)
	}
	flags := []cli.Flag{
		&cli.StringFlag{Name: "base"},
		&cli.StringFlag{Name: "message", Aliases: []string{"m"}},
		&cli.IntFlag{Name: "n"},
		&cli.BoolFlag{Name: "stage"},
		&cli.BoolFlag{Name: "long", Aliases: []string{"l"}},
	}
	f.Fuzz(func(t *testing.T, line string) {
		given, arguments, _, err := arrange(strings.Split(line, " "), flags, flagsAnywhere)
		if err != nil {
			return
		}
		words := append(append(given.words(), "--"), arguments...)
		again, sameArguments, _, err := arrange(words, flags, flagsFirst)
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		if got, want := strings.Join(again.words(), "\x00"), strings.Join(given.words(), "\x00"); got != want {
			t.Errorf("flags %q, want %q", got, want)
		}
		if got, want := strings.Join(sameArguments, "\x00"), strings.Join(arguments, "\x00"); got != want {
			t.Errorf("arguments %q, want %q", got, want)
		}
	})
}
