package gitbridge

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"

	"github.com/cache-tool/cache-tool/sync/remote"
)

// A service is what is asked of a Git server.
type service string

const (
	uploadPack  service = "git-upload-pack"  // to fetch
	receivePack service = "git-receive-pack" // to push
)

// A server is how a Git server is reached.
type server interface {
	// open begins a conversation: the server says which refs it has.
	open(ctx context.Context, s service) (conversation, error)

	// isFar reports whether to begin one takes long.
	isFar() bool
}

// A conversation is one with a service, in version 0 of the protocol.
type conversation interface {
	// advertised is where the server begins to speak.
	advertised() io.Reader

	// exchange sends a request, and returns the answer. It is done once at most.
	exchange(ctx context.Context, r request) (io.ReadCloser, error)

	// close ends the conversation.
	close() error
}

// A request can be sent again.
type request struct {
	open func() io.Reader
	size int64
}

// An advert is what a server says of itself, and where its refs are.
type advert struct {
	refs map[string]oid
	caps *capability.List
}

// maxAdvert is how much a server may say before it is asked something.
const maxAdvert = 256 << 20

// readAdvert reads what a server says first.
func readAdvert(r io.Reader, s service) (*advert, error) {
	a := &advert{refs: map[string]oid{}, caps: capability.NewList()}
	lines := pktline.NewScanner(io.LimitReader(r, maxAdvert))
	for first := true; lines.Scan(); {
		line := bytes.TrimSuffix(lines.Bytes(), []byte{'\n'})
		if first && string(line) == "# service="+string(s) {
			if lines.Scan() && len(lines.Bytes()) == 0 {
				continue
			}
			break
		}
		if len(line) == 0 {
			return a, nil
		}
		if first {
			text, caps, _ := bytes.Cut(line, []byte{0})
			if err := a.caps.Decode(caps); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
			}
			if format := a.caps.Get("object-format"); len(format) > 0 && format[0] != "sha1" {
				return nil, fmt.Errorf("the repository there has ids of %s, and not of SHA-1", format[0])
			}
			line, first = text, false
		}
		digits, name, ok := strings.Cut(string(line), " ")
		if digits == "shallow" {
			continue
		}
		at, err := parseOID(digits)
		if !ok || err != nil {
			return nil, fmt.Errorf("%w: it says %.80q", ErrNoServer, line)
		}
		if !at.isZero() && !strings.HasSuffix(name, "^{}") {
			a.refs[name] = at
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	return nil, ErrNoServer
}

// ErrNoServer says that no Git server answers.
var ErrNoServer = errors.New("what answers there is no Git server")

// has reports whether the server can do something.
func (a *advert) has(c capability.Capability) bool { return a.caps.Supports(c) }

// use returns those of caps that the server knows, as they stand in a request.
func (a *advert) use(caps ...capability.Capability) string {
	var words []string
	for _, c := range caps {
		if a.has(c) {
			words = append(words, string(c))
		}
	}
	if a.has(capability.Agent) {
		words = append(words, "agent=cache-tool")
	}
	return strings.Join(words, " ")
}

// fetch asks for a pack of what wants lead to and haves do not, and writes it to out.
func fetch(ctx context.Context, c conversation, a *advert, wants, haves []oid, out io.Writer) error {
	var head bytes.Buffer
	e := pktline.NewEncoder(&head)
	for i, at := range wants {
		caps := ""
		if i == 0 {
			caps = " " + a.use(capability.OFSDelta, capability.Sideband64k, capability.NoProgress)
		}
		if err := e.Encodef("want %s%s\n", at, caps); err != nil {
			return err
		}
	}
	if err := e.Flush(); err != nil {
		return err
	}
	for _, at := range haves {
		if err := e.Encodef("have %s\n", at); err != nil {
			return err
		}
	}
	if err := e.EncodeString("done\n"); err != nil {
		return err
	}
	answer, err := c.exchange(ctx, requestOf(head.Bytes()))
	if err != nil {
		return err
	}
	defer answer.Close()
	// Without any of the extensions of the negotiation there is one line: NAK, or the
	// first that both have.
	lines := pktline.NewScanner(answer)
	if !lines.Scan() {
		return noAnswer(lines.Err())
	}
	if line := lines.Bytes(); !bytes.HasPrefix(line, []byte("ACK ")) && !bytes.HasPrefix(line, []byte("NAK")) {
		return fmt.Errorf("%w: it says %.80q", ErrNoServer, line)
	}
	_, err = io.Copy(out, demux(a, answer))
	return err
}

func demux(a *advert, r io.Reader) io.Reader {
	if a.has(capability.Sideband64k) {
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	}
	return r
}

// noAnswer makes an error of the end of an answer that has not begun.
func noAnswer(err error) error {
	var said *pktline.ErrorLine
	if errors.As(err, &said) {
		if strings.Contains(said.Text, "not our ref") {
			return errMoved
		}
		return fmt.Errorf("the server says: %s", printable(said.Text))
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return remote.Unreachable(fmt.Errorf("the server hangs up: %w", err))
}

// errMoved says that a ref is not any more where the server has said that it is.
var errMoved = errors.New("the server's refs have moved meanwhile")

func requestOf(data []byte) request {
	return request{func() io.Reader { return bytes.NewReader(data) }, int64(len(data))}
}

// because returns why a conversation failed: how it ended says more than what was missed
// in it, unless that is what may be tried again.
func because(err, ended error) error {
	if err == nil || ended == nil || errors.Is(err, errMoved) {
		return cmp.Or(err, ended)
	}
	return ended
}

// A command moves one ref of the server.
type command struct {
	name     string
	old, new oid
}

// A refusedError says that the server does not move refs.
type refusedError struct{ reasons []string }

// isRace reports whether somebody else was at the same refs at that moment, so that
// there is sense in trying again.
func (e *refusedError) isRace() bool {
	return !slices.ContainsFunc(e.reasons, func(why string) bool {
		return !strings.Contains(why, "atomic transaction failed") && !strings.Contains(why, "failed to update ref") && !strings.Contains(why, "cannot lock ref")
	})
}

func (e *refusedError) Error() string {
	return "the server refuses: " + strings.Join(e.reasons, "; ")
}

// push asks a server to take a pack and to move refs. A nil pack is for commands that
// only delete. After an error other than a *refusedError they may have moved.
func push(ctx context.Context, c conversation, a *advert, commands []command, pack *packSpool) error {
	if !a.has(capability.ReportStatus) {
		return errors.New("the server does not say whether it has moved refs")
	}
	if len(commands) > 1 && !a.has(capability.Atomic) {
		return &refusedError{[]string{"it cannot move several refs at once: push them one by one"}}
	}
	caps := []capability.Capability{capability.ReportStatus, capability.Sideband64k, capability.Quiet, capability.OFSDelta}
	if len(commands) > 1 {
		caps = append(caps, capability.Atomic)
	}
	if slices.ContainsFunc(commands, func(c command) bool { return c.new.isZero() }) {
		if !a.has(capability.DeleteRefs) {
			return &refusedError{[]string{"it deletes no refs"}}
		}
	}
	var head bytes.Buffer
	e := pktline.NewEncoder(&head)
	for i, c := range commands {
		tail := ""
		if i == 0 {
			tail = "\x00 " + a.use(caps...)
		}
		if err := e.Encodef("%s %s %s%s", c.old, c.new, c.name, tail); err != nil {
			return err
		}
	}
	if err := e.Flush(); err != nil {
		return err
	}
	r := requestOf(head.Bytes())
	if pack != nil {
		size, err := pack.finish()
		if err != nil {
			return err
		}
		first := r.open
		r.open = func() io.Reader { return io.MultiReader(first(), pack.open()) }
		r.size += size
	}
	answer, err := c.exchange(ctx, r)
	if err != nil {
		return err
	}
	defer answer.Close()
	return report(demux(a, answer), commands)
}

// report reads what became of a push.
func report(r io.Reader, commands []command) error {
	lines := pktline.NewScanner(r)
	var reasons []string
	moved := map[string]bool{}
	for first := true; lines.Scan() && len(lines.Bytes()) > 0; first = false {
		line := strings.TrimSuffix(string(lines.Bytes()), "\n")
		word, rest, _ := strings.Cut(line, " ")
		name, why, _ := strings.Cut(rest, " ")
		switch {
		case first && word == "unpack":
			if rest != "ok" {
				reasons = append(reasons, printable(rest))
			}
		case word == "ok":
			moved[name] = true
		case word == "ng":
			reasons = append(reasons, printable(name+": "+why))
		case word == "option":
		default:
			return fmt.Errorf("%w: it says %.80q", ErrNoServer, line)
		}
	}
	if len(reasons) > 0 {
		return &refusedError{reasons}
	}
	for _, c := range commands {
		if !moved[c.name] {
			return noAnswer(lines.Err())
		}
	}
	return nil
}

// printable makes one line of what a server says, without anything that would move
// about on a terminal.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 400 {
		text = strings.ToValidUTF8(text[:400], "") + "…"
	}
	return text
}
