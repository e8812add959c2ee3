package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// The help pages. A verb's Description holds its text, then a line
// "Example:" and what one would type.
const (
	appHelp = `cache-tool: a build cache that works like Git

usage: cache-tool [global flags] COMMAND [flags] [arguments]
{{range .Groups}}
{{.Name}}:{{range .Commands}}
  {{.Name}}{{"\t"}}{{.Usage}}{{end}}
{{end}}
Global flags, which may stand anywhere:{{range .Flags}}
  {{.}}{{end}}

"cache-tool help COMMAND" tells more about one. The repository is --repo, else
$CACHE_TOOL_REPO, else the nearest .cache-tool upwards, else
$XDG_CACHE_HOME/cache-tool; it is made at first use. Exit codes: 0 done or hit,
1 error, 2 usage, 3 miss, 4 conflict. With --json an error is a document, too:
{"error":{"message":"…","hints":["…"],"code":1}}.
`
	verbHelp = `{{.HelpName}}: {{.Usage}}

usage: {{if .UsageText}}{{.UsageText}}{{else}}{{.HelpName}}{{if .VisibleFlags}} [flags]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}{{end}}

{{.Description}}

Flags:{{range .VisibleFlags}}
  {{.}}{{end}}
`
)

// text builds a Description: paragraphs, then an example.
func text(description, example string) string {
	return strings.TrimSpace(description) + "\n\nExample:\n  " + strings.ReplaceAll(strings.TrimSpace(example), "\n", "\n  ")
}

func helpCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:      "help",
		Category:  categoryTool,
		Usage:     "show this list, or the page of one command",
		ArgsUsage: "[COMMAND]",
		Description: text(`The page of a command says what it takes and shows one use of it.`,
			`cache-tool help restore`),
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				cli.HelpPrinter(s.out, appHelp, s.overview())
				return nil
			case 1:
				v, ok := findVerb(c.Args().First())
				if !ok {
					return s.unknownVerb(c.Args().First())
				}
				return s.showHelp(v)
			}
			return usagef("one command at a time")
		},
	}
}

// An overview is what the help page shows.
type overview struct {
	Groups []group
	Flags  []cli.Flag
}

type group struct {
	Name     string
	Commands []*cli.Command
}

// overview groups the commands by their category, in the order of verbs.
func (s *session) overview() overview {
	o := overview{Flags: globalFlags(s)}
	for _, v := range verbs() {
		command := v.build(s)
		if command.Hidden {
			continue
		}
		if n := len(o.Groups); n == 0 || o.Groups[n-1].Name != command.Category {
			o.Groups = append(o.Groups, group{Name: command.Category})
		}
		last := &o.Groups[len(o.Groups)-1]
		last.Commands = append(last.Commands, command)
	}
	return o
}

// showHelp prints the page of one command.
func (s *session) showHelp(v verb) error {
	command := v.build(s)
	command.HelpName = programName + " " + v.name
	command.Flags = withHelp(command.Flags)
	cli.HelpPrinter(s.out, verbHelp, command)
	return nil
}

// The groups of the help page.
const (
	categoryCache   = "Keep and get back"
	categoryLook    = "Look at what is kept"
	categoryHistory = "History: who added what; take it out again"
	categoryRemote  = "Other machines"
	categoryRepo    = "The repository"
	categoryTool    = "This program"
)

// arguments checks how many arguments there are: at least min, at most max,
// which may be many.
func arguments(c *cli.Context, min, max int) error {
	n := c.NArg()
	if n >= min && n <= max {
		return nil
	}
	text := "too many arguments"
	if n < min {
		text = "too few arguments"
	}
	return &usageError{text, []string{strings.TrimSpace(fmt.Sprintf("usage: %s %s %s", programName, c.Command.Name, c.Command.ArgsUsage))}}
}

const many = int(^uint(0) >> 1)
