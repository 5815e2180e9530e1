// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxBody bounds what is read of an answer, in bytes; more is a loss.
const maxBody = 1 << 20

// Cause is why a request was lost.
type Cause string

// The causes. An answer with another status is "status N" (see [StatusCause]).
const (
	// Late: the client itself was busy until after the limit. No server's
	// fault, and counted all the same: what was not asked was not proved.
	Late Cause = "client late"
	// ConnectTimeout: not connected within the limit.
	ConnectTimeout Cause = "connect timeout"
	// AnswerTimeout: connected, but no whole answer within the limit.
	AnswerTimeout Cause = "answer timeout"
	// Refused: nobody listens.
	Refused Cause = "refused"
	// Reset: the connection was reset, before or in an answer.
	Reset Cause = "reset"
	// Truncated: the connection was closed before the whole answer.
	Truncated Cause = "truncated"
	// Unreachable: no route to the host or its network.
	Unreachable Cause = "unreachable"
	// Other: the failure's text says what.
	Other Cause = "other"
)

// StatusCause is the cause of an answer with another status than 200.
func StatusCause(code int) Cause { return Cause(fmt.Sprintf("status %d", code)) }

// result is what became of one request.
type result struct {
	app     string
	due     time.Time
	latency time.Duration // from due; of any end
	cause   Cause         // "" for a 200
	detail  string
	local   string     // the client's end of the connection, if it had one
	pod     netip.Addr // who answered, if the answer says
}

// attempt makes one request, once, within ctx.
func attempt(ctx context.Context, transport http.RoundTripper, target Target, due time.Time) result {
	r := result{app: target.App, due: due}
	var local atomic.Pointer[string]
	err := func() error {
		if ctx.Err() != nil {
			r.cause = Late
			return ctx.Err()
		}
		ctx := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			address := info.Conn.LocalAddr().String()
			local.Store(&address)
		}})
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.URL, nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
		switch {
		case err != nil:
			return err
		case response.StatusCode != http.StatusOK:
			r.cause = StatusCause(response.StatusCode)
			return fmt.Errorf("answered %s", response.Status)
		case len(body) > maxBody:
			return fmt.Errorf("answered more than %d bytes", maxBody)
		}
		r.pod = podOf(body)
		return nil
	}()
	r.latency = time.Since(due)
	if deadline, ok := ctx.Deadline(); ok && err == nil && r.latency > deadline.Sub(due) {
		err = fmt.Errorf("read to its end just after the limit: %w", context.DeadlineExceeded)
	}
	if at := local.Load(); at != nil {
		r.local = *at
	}
	if err != nil {
		r.detail = err.Error()
		if r.cause == "" {
			r.cause = causeOf(err, r.local != "")
		}
	}
	return r
}

// podOf is the address of the pod that the body of an answer names, or zero.
func podOf(body []byte) netip.Addr {
	var answer struct {
		PodIP string `json:"podIP"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return netip.Addr{}
	}
	address, _ := netip.ParseAddr(answer.PodIP) // zero if it is none
	return address.Unmap()
}

func causeOf(err error, connected bool) Cause {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Unreachable
	case errors.As(err, &timeout) && timeout.Timeout():
		if connected {
			return AnswerTimeout
		}
		return ConnectTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		// net/http's words, and no exported error, for a close before the request.
		strings.Contains(err.Error(), "server closed idle connection"):
		return Truncated
	}
	return Other
}
