package gitbridge

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/auth"
)

// helperCredentials asks the helpers that Git is configured with who we are. Nobody is
// asked on a terminal. What they say is not told them back: it is not for us to say that
// it is to be kept, or forgotten.
func helperCredentials(ctx context.Context, u *url.URL, user string) (c auth.Credentials, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", "credential", "fill")
	cmd.Env = append(gitEnviron(), "GIT_TERMINAL_PROMPT=0")
	cmd.WaitDelay = time.Second
	var in bytes.Buffer
	for _, line := range [][2]string{{"protocol", u.Scheme}, {"host", u.Host}, {"path", strings.TrimPrefix(u.Path, "/")}, {"username", user}} {
		if strings.ContainsAny(line[1], "\n\x00") {
			return c, false
		}
		if line[1] != "" {
			fmt.Fprintf(&in, "%s=%s\n", line[0], line[1])
		}
	}
	in.WriteByte('\n')
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		return c, false
	}
	for line := range strings.Lines(string(out)) {
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "="); name {
		case "username":
			c.User = value
		case "password":
			c.Password = value
		}
	}
	return c, c.Password != ""
}
