package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/cache-tool/cache-tool/sync/wire"
)

// log writes a line about the exchange: an error if it is the server's, a warning
// if somebody was refused or went away, else a piece of information.
func (x *exchange) log(status int, sent int64) {
	level := slog.LevelInfo
	if x.err != nil && strings.HasPrefix(x.op, "git") {
		status = wire.AsError(x.err).Status() // Git is told of errors within answers
	}
	switch {
	case x.gone():
		level = slog.LevelWarn
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable, x.err != nil && status == http.StatusOK:
		level = slog.LevelError
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		level = slog.LevelWarn
	}
	if x.op == "healthz" && x.err == nil || x.op == "metrics" && x.err == nil {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{
		slog.String("id", x.id), slog.String("op", x.op), slog.Int("code", status),
		slog.String("who", x.who.name), slog.String("from", address(x.r)), slog.String("proto", x.r.Proto),
		slog.Int64("in", x.got), slog.Int64("out", sent), slog.Duration("took", time.Since(x.begun).Round(time.Microsecond)),
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("err", x.err.Error()))
	}
	x.s.o.Log.LogAttrs(context.WithoutCancel(x.r.Context()), level, "request", attrs...)
}

// gone reports whether it was the client who ended the exchange.
func (x *exchange) gone() bool {
	return errors.Is(x.err, context.Canceled) && context.Cause(x.r.Context()) == context.Canceled
}
