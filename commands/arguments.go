package commands

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"
)

// urfave/cli parses no flag after the first argument and says nothing about it:
// "save key dir --stage" would commit. So arrange reads the line first.

// flagOrder says where flags may stand.
type flagOrder int

const (
	flagsAnywhere flagOrder = iota // before, between and after arguments, up to "--"
	flagsFirst                     // up to the first argument: what follows is another command's line
)

// A flagGiven is one flag as it stood on the command line.
type flagGiven struct {
	flag     cli.Flag
	name     string // as typed, without dashes
	value    string
	hasValue bool
}

type flagsGiven []flagGiven

// arrange parts args into flags and arguments. Long flags are "--name",
// "--name=value" or "--name value"; short ones "-n", "-n value", "-nvalue",
// and "-lR" for "-l -R". Dashes is how many arguments stood before "--", or -1.
func arrange(args []string, flags []cli.Flag, order flagOrder) (given flagsGiven, arguments []string, dashes int, err error) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return given, append(arguments, args...), len(arguments), nil
		case len(word) < 2 || word[0] != '-':
			arguments = append(arguments, word)
			if order == flagsFirst {
				return given, append(arguments, args...), -1, nil
			}
			continue
		}
		var more flagsGiven
		if strings.HasPrefix(word, "--") {
			more, err = longFlag(word, flags)
		} else {
			more, err = shortFlags(word, flags)
		}
		if err != nil {
			return nil, nil, -1, err
		}
		if last := &more[len(more)-1]; !last.hasValue && takesValue(last.flag) {
			if len(args) == 0 {
				return nil, nil, -1, &usageError{text: fmt.Sprintf("flag %s wants a value", dashed(last.name))}
			}
			last.value, last.hasValue, args = args[0], true, args[1:]
		}
		given = append(given, more...)
	}
	return given, arguments, -1, nil
}

func longFlag(word string, flags []cli.Flag) (flagsGiven, error) {
	name, value, hasValue := strings.Cut(word[2:], "=")
	f := findFlag(flags, name)
	if f == nil || len(name) == 1 {
		return nil, unknownFlag(word, "--"+name, flags)
	}
	return flagsGiven{{f, name, value, hasValue}}, nil
}

// shortFlags reads "-abc": each letter a flag, the last of which may take the
// rest as its value. "-5" is "-n 5" for a command that has -n, as in Git.
func shortFlags(word string, flags []cli.Flag) (flagsGiven, error) {
	letters := word[1:]
	if strings.Trim(letters, "0123456789") == "" {
		if f := findFlag(flags, "n"); f != nil {
			return flagsGiven{{f, "n", letters, true}}, nil
		}
	}
	var given flagsGiven
	for i := range letters {
		name := letters[i : i+1]
		f := findFlag(flags, name)
		if f == nil {
			return nil, unknownFlag(word, "-"+name, flags)
		}
		if takesValue(f) && i+1 < len(letters) {
			return append(given, flagGiven{f, name, strings.TrimPrefix(letters[i+1:], "="), true}), nil
		}
		given = append(given, flagGiven{flag: f, name: name})
	}
	return given, nil
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func unknownFlag(word, flag string, flags []cli.Flag) error {
	err := &usageError{text: fmt.Sprintf("unknown flag %q", word)}
	var names []string
	for _, f := range flags {
		for _, name := range f.Names() {
			names = append(names, dashed(name))
		}
	}
	if near := nearest(flag, names); near != "" && len(near) > 2 {
		err.hints = []string{fmt.Sprintf("did you mean %q?", near)}
	}
	return err
}

// nearest returns the one of names that s was probably meant to be, or nothing.
func nearest(s string, names []string) (name string) {
	best := 0.85
	for _, n := range names {
		if score := smetrics.JaroWinkler(n, s, 0.7, 4); score > best {
			best, name = score, n
		}
	}
	return name
}

// without drops the flag called name and reports whether it was there.
func (g flagsGiven) without(name string) (flagsGiven, bool) {
	rest := slices.DeleteFunc(slices.Clone(g), func(f flagGiven) bool { return slices.Contains(f.flag.Names(), name) })
	return rest, len(rest) < len(g)
}

// split parts the flags that are called like one of flags from the others.
func (g flagsGiven) split(flags []cli.Flag) (in, out flagsGiven) {
	for _, f := range g {
		if findFlag(flags, f.name) != nil {
			in = append(in, f)
		} else {
			out = append(out, f)
		}
	}
	return in, out
}

// words writes the flags as one word each, so that no value can be mistaken for
// a flag; and by their first names, as urfave/cli refuses to hear two of them.
func (g flagsGiven) words() []string {
	words := make([]string, len(g))
	for i, f := range g {
		words[i] = dashed(f.flag.Names()[0])
		if f.hasValue {
			words[i] += "=" + f.value
		}
	}
	return words
}

// set gives flags their values: targets has, for each first name of a flag, a
// *string, a *[]string or a *bool.
func (g flagsGiven) set(targets map[string]any) error {
	for _, f := range g {
		switch to := targets[f.flag.Names()[0]].(type) {
		case *string:
			*to = f.value
		case *[]string:
			*to = append(*to, f.value)
		case *bool:
			value, err := strconv.ParseBool(cmp.Or(f.value, "true"))
			if err != nil {
				return &usageError{text: fmt.Sprintf("flag %s is true or false, not %q", dashed(f.name), f.value)}
			}
			*to = value
		}
	}
	return nil
}
