// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// callTimeout bounds one call of the plugin to ipamd.
const callTimeout = 10 * time.Second

// client is the plugin's side of the socket.
type client struct{ http http.Client }

func newClient(socket string) *client {
	return &client{http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// call answers errUnknownSandbox and errNoAddress as such; every other error means that
// ipamd could not be asked.
func (c *client) call(name string, req request) (address, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return address{}, fmt.Errorf("encoding the request: %w", err)
	}
	response, err := c.http.Post("http://ipamd/"+name, "application/json", bytes.NewReader(body))
	if err != nil {
		return address{}, fmt.Errorf("asking ipamd (is aws-node running on this node?): %w", err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return address{}, errUnknownSandbox
	case http.StatusInsufficientStorage:
		return address{}, errNoAddress
	default:
		text, err := io.ReadAll(io.LimitReader(response.Body, 1<<12))
		if err != nil {
			return address{}, fmt.Errorf("reading ipamd's refusal (%s): %w", response.Status, err)
		}
		return address{}, fmt.Errorf("asking ipamd: %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	var answer address
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return address{}, fmt.Errorf("reading ipamd's answer: %w", err)
	}
	return answer, nil
}

// ready asks whether ipamd answers at its socket.
func (c *client) ready() error {
	response, err := c.http.Get("http://ipamd/ready")
	if err != nil {
		return fmt.Errorf("asking ipamd whether it is ready: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking ipamd whether it is ready: %s", response.Status)
	}
	return nil
}
