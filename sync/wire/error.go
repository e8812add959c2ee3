package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/cache-tool/cache-tool/objects"
	"github.com/cache-tool/cache-tool/objects/pack"
	"github.com/cache-tool/cache-tool/refs"
	"github.com/cache-tool/cache-tool/sync/remote"
)

// A Code says for programs what went wrong.
type Code string

// The codes. Those of the first group stand for errors of other packages.
const (
	Conflict  Code = "conflict"   // a *refs.ConflictError
	NameTaken Code = "name-taken" // refs.ErrNameTaken
	BadName   Code = "bad-name"   // refs.ErrBadName
	Stale     Code = "stale"      // remote.ErrStale
	NotFound  Code = "not-found"  // objects.ErrNotFound
	BadPack   Code = "bad-pack"   // pack.ErrBadPack
	NotCommit Code = "not-commit" // remote.ErrNotCommit
	NoSpace   Code = "no-space"   // syscall.ENOSPC
	Unknown   Code = "unknown"    // remote.ErrDenied: nobody knows who asks
	Denied    Code = "denied"     // remote.ErrDenied

	BadRequest  Code = "bad-request"
	NoOperation Code = "no-operation" // the server does not know it
	BadMethod   Code = "bad-method"
	BadType     Code = "bad-type"  // of the body
	NoLength    Code = "no-length" // of the body
	TooLarge    Code = "too-large"
	Slow        Code = "slow"     // the body did not come on
	Busy        Code = "busy"     // nobody can be served now
	TooMany     Code = "too-many" // the same client asks for too much at once
	Internal    Code = "internal" // the server's log says more
)

// codes says how a code looks in HTTP, and which error it stands for.
var codes = []struct {
	code   Code
	status int
	is     error
}{
	// These come before NotFound, which an error may be besides.
	{Stale, http.StatusConflict, remote.ErrStale},
	{BadPack, http.StatusUnprocessableEntity, pack.ErrBadPack},

	{Conflict, http.StatusConflict, nil},
	{NameTaken, http.StatusConflict, refs.ErrNameTaken},
	{BadName, http.StatusBadRequest, refs.ErrBadName},
	{NotFound, http.StatusNotFound, objects.ErrNotFound},
	{NotCommit, http.StatusUnprocessableEntity, remote.ErrNotCommit},
	{NoSpace, http.StatusInsufficientStorage, syscall.ENOSPC},
	{Unknown, http.StatusUnauthorized, nil},
	{Denied, http.StatusForbidden, remote.ErrDenied},
	{BadRequest, http.StatusBadRequest, ErrMalformed},
	{NoOperation, http.StatusNotFound, nil},
	{BadMethod, http.StatusMethodNotAllowed, nil},
	{BadType, http.StatusUnsupportedMediaType, nil},
	{NoLength, http.StatusLengthRequired, nil},
	{TooLarge, http.StatusRequestEntityTooLarge, nil},
	{Slow, http.StatusRequestTimeout, nil},
	{Busy, http.StatusServiceUnavailable, nil},
	{TooMany, http.StatusTooManyRequests, nil},
	{Internal, http.StatusInternalServerError, nil},
}

// An Error is one that a server reports. As JSON it is
//
//	{"error":{"code":"conflict","message":"…","ref":"refs/heads/main","is":"…","expected":"…"}}
//
// with the last three only for a Conflict; an id that is left out is zero.
type Error struct {
	Code    Code
	Message string // one line, for people

	conflict *refs.ConflictError
}

// Errorf returns an Error with a code of its own.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// AsError returns err as an Error. What is of no kind that a client can do
// something about is Internal, and its text stays here: it may say how the server
// is built.
func AsError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var conflict *refs.ConflictError
	if errors.As(err, &conflict) {
		return &Error{Conflict, conflict.Error(), conflict}
	}
	var version *pack.VersionError
	if errors.As(err, &version) {
		return Errorf(BadPack, "%v", version)
	}
	if errors.Is(err, syscall.ENOSPC) {
		return Errorf(NoSpace, "%v", syscall.ENOSPC) // and not where
	}
	for _, c := range codes {
		if c.is != nil && errors.Is(err, c.is) {
			return &Error{Code: c.code, Message: line(err.Error())}
		}
	}
	return Errorf(Internal, "internal error")
}

// maxMessage is how long a message may be.
const maxMessage = 2000

// line makes one line of a text that somebody else may have had a hand in.
func line(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxMessage {
		s = s[:maxMessage]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// Status returns the status code of HTTP for e.
func (e *Error) Status() int {
	for _, c := range codes {
		if c.code == e.Code {
			return c.status
		}
	}
	return http.StatusInternalServerError
}

func (e *Error) Error() string { return e.Message }

// Is makes an Error answer to what its code stands for.
func (e *Error) Is(target error) bool {
	if e.Code == Unknown {
		return target == remote.ErrDenied
	}
	for _, c := range codes {
		if c.code == e.Code {
			return c.is != nil && c.is == target
		}
	}
	return false
}

// errorJSON is an Error on its way.
type errorJSON struct {
	Error struct {
		Code     Code        `json:"code"`
		Message  string      `json:"message"`
		Ref      refs.Name   `json:"ref,omitempty"`
		Is       *objects.ID `json:"is,omitempty"`
		Expected *objects.ID `json:"expected,omitempty"`
	} `json:"error"`
}

// Encode returns e as JSON.
func (e *Error) Encode() []byte {
	var j errorJSON
	j.Error.Code, j.Error.Message = e.Code, e.Message
	if e.conflict != nil {
		j.Error.Ref = e.conflict.Name
		j.Error.Is, j.Error.Expected = orNil(e.conflict.Is), orNil(e.conflict.Expected)
	}
	data, _ := json.Marshal(j) // strings and ids: that cannot fail
	return data
}

func orNil(id objects.ID) *objects.ID {
	if id.IsZero() {
		return nil
	}
	return &id
}

func orZero(id *objects.ID) objects.ID {
	if id == nil {
		return objects.ID{}
	}
	return *id
}

// MaxError is how long an encoded Error may be.
const MaxError = 16 << 10

// ParseError returns the error that Encode has put into data: an *Error, or a
// *refs.ConflictError. If data is no such thing ok is false.
func ParseError(data []byte) (err error, ok bool) {
	var j errorJSON
	if len(data) > MaxError || json.Unmarshal(data, &j) != nil || j.Error.Code == "" {
		return nil, false
	}
	if j.Error.Code == Conflict {
		if j.Error.Ref.Check() != nil {
			return nil, false
		}
		return &refs.ConflictError{Name: j.Error.Ref, Is: orZero(j.Error.Is), Expected: orZero(j.Error.Expected)}, true
	}
	return &Error{Code: Code(line(string(j.Error.Code))), Message: line(j.Error.Message)}, true
}
