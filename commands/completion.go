package commands

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeName is the hidden command that the scripts below ask. It takes the
// words of the line so far, the last of which may be empty, and prints what
// that one may become: "word", or "word<TAB>what it is".
const completeName = "__complete"

const bashCompletion = `_cache_tool() {
    local line=${COMP_LINE:0:COMP_POINT} words reply
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    # bash takes "main:key" for three words, and replaces the last only
    local last=${words[-1]}
    local cut=${last%"${last##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r reply _; do
        COMPREPLY+=("${reply#"$cut"}")
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _cache_tool cache-tool
`

const zshCompletion = `#compdef cache-tool
_cache_tool() {
    local -a replies
    local word help
    while IFS=$'\t' read -r word help; do
        replies+=("${word//:/\\:}${help:+:$help}")
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $#replies )); then _describe cache-tool replies; else _files; fi
}
compdef _cache_tool cache-tool
`

const fishCompletion = `function __cache_tool_complete
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    test -n "$last"; or set last ""
    cache-tool __complete -- $words[2..-1] $last 2>/dev/null
end
complete -c cache-tool -a '(__cache_tool_complete)'
`

const powershellCompletion = `Register-ArgumentCompleter -Native -CommandName cache-tool -ScriptBlock {
    param($word, $ast, $position)
    $words = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
    if ($word -eq '') { $words += '' }
    & cache-tool __complete '--' @words 2>$null | ForEach-Object {
        $reply, $help = $_ -split "` + "`" + `t", 2
        if (-not $help) { $help = $reply }
        [System.Management.Automation.CompletionResult]::new($reply, $reply, 'ParameterValue', $help)
    }
}
`

func completionCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Category:  categoryTool,
		Usage:     "print a script that completes commands in a shell",
		ArgsUsage: "bash|zsh|fish|powershell",
		Description: text(`
Prints a script for the shell to read. It completes commands and flags, and
keys, branches, tags and settings of the repository at hand.`, `
source <(cache-tool completion bash)                   # in ~/.bashrc
source <(cache-tool completion zsh)                    # in ~/.zshrc, after compinit
cache-tool completion fish | source                    # in config.fish
cache-tool completion powershell | Out-String | iex    # in $PROFILE`),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			script, ok := map[string]string{
				"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion, "powershell": powershellCompletion,
			}[c.Args().First()]
			if !ok {
				return usagef("%q is not a shell that this command knows: bash, zsh, fish or powershell", c.Args().First())
			}
			if s.json {
				return s.answer(map[string]string{"shell": c.Args().First(), "script": script})
			}
			s.printf("%s", script)
			return nil
		},
	}
}

func completeCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:   completeName,
		Hidden: true,
		Action: func(c *cli.Context) error {
			for _, word := range s.complete(c.Context, c.Args().Slice()) {
				s.printf("%s\n", word)
			}
			return nil
		},
	}
}

// complete returns what the last of words may become. It never fails: somebody
// is typing.
func (s *session) complete(ctx context.Context, words []string) []string {
	if len(words) == 0 {
		return nil
	}
	last, words := words[len(words)-1], words[:len(words)-1]
	var pending cli.Flag // the flag whose value last is
	takeFlag := func(flags []cli.Flag, word string) {
		pending = nil
		if f := findFlag(flags, strings.TrimLeft(word, "-")); f != nil && takesValue(f) {
			pending = f
		}
	}
	flags := globalFlags(s)
	var v verb
	var args []string
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case pending != nil:
			s.takeGlobal(pending, word)
			pending = nil
		case strings.HasPrefix(word, "-"):
			takeFlag(flags, word)
		case v.build == nil:
			var ok bool
			if v, ok = findVerb(word); !ok {
				return nil
			}
			flags = append(v.build(s).Flags, globalFlags(s)...)
		default:
			args = append(args, word)
		}
	}
	switch {
	case pending != nil:
		if pending.Names()[0] == "branch" {
			return startingWith(s.branchWords(ctx), last)
		}
		return nil // the shell completes files
	case strings.HasPrefix(last, "-"):
		return startingWith(flagWords(flags), last)
	case v.build == nil:
		return startingWith(s.verbWords(), last)
	case v.words != nil:
		return startingWith(v.words(ctx, s, args, last), last)
	}
	return nil
}

// takeGlobal minds the flags that say which repository the words come from.
func (s *session) takeGlobal(f cli.Flag, value string) {
	switch f.Names()[0] {
	case "repo":
		s.repoFlag = value
	case "branch":
		s.branchFlag = value
	}
}

func startingWith(words []string, prefix string) []string {
	var found []string
	for _, w := range words {
		if strings.HasPrefix(w, prefix) {
			found = append(found, w)
		}
	}
	return found
}

func (s *session) verbWords() []string {
	var words []string
	for _, v := range verbs() {
		if c := v.build(s); !c.Hidden {
			words = append(words, v.name+"\t"+c.Usage)
		}
	}
	return words
}

func flagWords(flags []cli.Flag) []string {
	var words []string
	for _, f := range flags {
		name := dashed(f.Names()[0])
		if d, ok := f.(cli.DocGenerationFlag); ok {
			name = fmt.Sprintf("%s\t%s", name, strings.ReplaceAll(d.GetUsage(), "`", ""))
		}
		words = append(words, name)
	}
	return words
}
