// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// errNoAgent means that nobody answers on the agent's socket.
var errNoAgent = errors.New("the agent does not answer")

// client talks to the agent of this node over its socket.
type client struct{ http *http.Client }

// retryInterval is the pause between two attempts to reach an agent that is starting.
const retryInterval = 250 * time.Millisecond

func newClient(socket string) client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

func (c client) allocate(ctx context.Context, owner string) (lease, error) {
	var got lease
	err := c.retry(ctx, func() error {
		return c.call(ctx, http.MethodPost, "/v1/ipam?owner="+url.QueryEscape(owner), nil, &got)
	})
	return got, err
}

func (c client) putEndpoint(ctx context.Context, owner string, ep datapath.Endpoint) error {
	return c.call(ctx, http.MethodPut, containerPath+url.PathEscape(owner), ep, &datapath.Endpoint{})
}

func (c client) deleteEndpoint(ctx context.Context, owner string) error {
	return c.call(ctx, http.MethodDelete, containerPath+url.PathEscape(owner), nil, &struct{}{})
}

// retry waits for an agent that is not there yet, as long as ctx allows.
func (c client) retry(ctx context.Context, attempt func() error) error {
	for {
		err := attempt()
		if !errors.Is(err, errNoAgent) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryInterval):
		}
	}
}

func (c client) call(ctx context.Context, method, path string, body, result any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %s %s: %w", errNoAgent, method, path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("reading the agent's answer to %s %s: %w", method, path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking the agent for %s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(answer)))
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("reading the agent's answer to %s %s: %w", method, path, err)
	}
	return nil
}
