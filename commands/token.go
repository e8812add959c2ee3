package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cache-tool/cache-tool/sync/auth"
)

func tokenCommand(s *session) *cli.Command {
	var want auth.Token
	var read, write cli.StringSlice
	var expires string
	return &cli.Command{
		Name:      "token",
		Category:  categoryRemote,
		Usage:     "say who may read and write what a server serves",
		ArgsUsage: "create | list | revoke ID…",
		Description: text(`
"create" prints a token, once: the repository keeps only its hash. Clients find it in
$CACHE_TOOL_TOKEN, or as the password in ~/.netrc. --read and --write name branches, in
which * stands for any characters; tag:GLOB is tags; a lone * is everything. What may be
written may be read. With --cert the rules are for those who show a client certificate
with that common name, and there is no token. "revoke" ends it at once, also for a
server that is running.`, `
cache-tool token create --name "pull requests" --read main --write 'pr/*' --expires 24h`),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "what lists, logs and reflogs call it: `NAME`", Destination: &want.Name},
			&cli.StringSliceFlag{Name: "read", Usage: "it may read the branches that `GLOB` matches; may be repeated", Destination: &read},
			&cli.StringSliceFlag{Name: "write", Usage: "it may make, move and delete the branches that `GLOB` matches, too", Destination: &write},
			&cli.StringFlag{Name: "expires", Usage: "it is good for `TIME`, such as 24h or 30d; or never (90d)", Destination: &expires},
			&cli.StringFlag{Name: "cert", Usage: "for the client certificate with the common name `NAME`", Destination: &want.Cert},
		},
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, many); err != nil {
				return err
			}
			rest := c.Args().Slice()[1:]
			if verb := c.Args().First(); verb != "revoke" && len(rest) > 0 {
				return usagef("too many arguments")
			}
			switch c.Args().First() {
			case "create":
				want.Rules = auth.Rules{Read: read.Value(), Write: write.Value()}
				return s.createToken(c.Context, want, expires)
			case "list":
				return s.listTokens(c.Context)
			case "revoke":
				return s.revokeTokens(c.Context, rest)
			}
			return usagef("%q: want create, list or revoke", c.Args().First())
		},
	}
}

// A tokenJSON is what --json says of a token.
type tokenJSON struct {
	ID      string     `json:"id"`
	Name    string     `json:"name,omitempty"`
	Cert    string     `json:"cert,omitempty"`
	Read    []string   `json:"read"`
	Write   []string   `json:"write"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Expired bool       `json:"expired,omitempty"`
	Token   string     `json:"token,omitempty"` // only when it is made
}

func describeToken(t auth.Token) tokenJSON {
	j := tokenJSON{
		ID: t.ID, Name: t.Name, Cert: t.Cert, Created: t.Created, Expired: t.Expired(time.Now()),
		Read: append([]string{}, t.Read...), Write: append([]string{}, t.Write...),
	}
	if !t.Expires.IsZero() {
		j.Expires = &t.Expires
	}
	return j
}

// lifetime is how long a token is good if nobody says so: a leaked one does not
// stay open for ever.
const lifetime = "90d"

// createToken makes a token and prints it, alone on standard output, so that a
// script can take it from there.
func (s *session) createToken(ctx context.Context, want auth.Token, expires string) error {
	if want.Rules.IsZero() {
		return &usageError{"what may it do?", []string{"--read GLOB and --write GLOB say so: --read main --write 'pr/*'"}}
	}
	if err := checkRules(want.Rules); err != nil {
		return err
	}
	var err error
	if want.Expires, err = expiry(time.Now(), expires); err != nil {
		return err
	}
	r, err := s.openToWrite(ctx)
	if err != nil {
		return err
	}
	made, secret, err := tokensOf(r).Create(ctx, want)
	if err != nil {
		return err
	}
	if s.json {
		j := describeToken(made)
		j.Token = secret
		return s.answer(j)
	}
	if secret != "" {
		s.printf("%s\n", secret)
	}
	if !s.quiet {
		fmt.Fprintf(s.err, "%s: %s\n", made.ID, rightsOf(made))
	}
	return nil
}

// rightsOf says what a token is good for.
func rightsOf(t auth.Token) string {
	who := "this token"
	if t.Cert != "" {
		who = fmt.Sprintf("certificates of %s", shown(t.Cert))
	}
	var rights []string
	if len(t.Read) > 0 {
		rights = append(rights, "read "+strings.Join(t.Read, ", "))
	}
	if len(t.Write) > 0 {
		rights = append(rights, "read and write "+strings.Join(t.Write, ", "))
	}
	until := "until it is revoked"
	if !t.Expires.IsZero() {
		until = "until " + t.Expires.Local().Format(dateFormat)
	}
	what := fmt.Sprintf("%s may %s, %s", who, strings.Join(rights, "; "), until)
	if t.Cert == "" {
		what += "; it is not shown again"
	}
	return what
}

// expiry reads how long a token is good: a duration as Go writes it, or days.
func expiry(now time.Time, s string) (time.Time, error) {
	if s == "" {
		s = lifetime
	}
	if s == "never" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); n > 36500 {
			err = errors.New("more than a hundred years")
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return time.Time{}, usagef("--expires %s: want a time such as 24h or 30d, or never", shown(s))
	}
	return now.Add(d), nil
}

func (s *session) listTokens(ctx context.Context) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	tokens, err := tokensOf(r).List()
	if err != nil {
		return err
	}
	list := []tokenJSON{}
	for _, t := range tokens {
		list = append(list, describeToken(t))
	}
	if s.json {
		return s.answer(map[string]any{"tokens": list})
	}
	if len(list) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tREAD\tWRITE\tEXPIRES\tNAME")
	for i, t := range list {
		expires := "never"
		switch {
		case t.Expired:
			expires = "expired " + ago(time.Now(), *t.Expires)
		case t.Expires != nil:
			expires = t.Expires.Local().Format(time.DateTime)
		}
		name := tokens[i].Name
		if t.Cert != "" {
			name = strings.TrimSpace(fmt.Sprintf("%s (certificate of %s)", name, t.Cert))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", t.ID, orDash(t.Read...), orDash(t.Write...), expires, orDash(printable(name)))
	}
	return table.Flush()
}

// orDash joins words; what is empty must be seen in a table.
func orDash(words ...string) string { return cmp.Or(strings.Join(words, " "), "-") }

func (s *session) revokeTokens(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return &usageError{"which token?", []string{`"cache-tool token list" shows the ids`}}
	}
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	gone, err := tokensOf(r).Revoke(ctx, ids...)
	if errors.Is(err, auth.ErrNoToken) {
		return withHint(err, `"cache-tool token list" shows the ids`)
	} else if err != nil {
		return err
	}
	list := []tokenJSON{}
	for _, t := range gone {
		list = append(list, describeToken(t))
		s.say("revoked %s", printable(strings.TrimSpace(t.ID+" "+t.Name)))
	}
	if s.json {
		return s.answer(map[string]any{"revoked": list})
	}
	return nil
}

// tokenWords are what token does, and the ids that revoke may take.
func tokenWords(ctx context.Context, s *session, args []string, _ string) []string {
	if len(args) == 0 {
		return []string{"create\tmake a token", "list\tshow the tokens", "revoke\tend tokens"}
	}
	if args[0] != "revoke" {
		return nil
	}
	r, err := s.open(ctx)
	if err != nil {
		return nil
	}
	tokens, _ := tokensOf(r).List()
	var words []string
	for _, t := range tokens {
		words = append(words, t.ID+"\t"+printable(t.Name))
	}
	return words
}
