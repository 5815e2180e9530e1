// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Sockets in Cilium's runtime directory (Cilium pkg/defaults, pkg/health/defaults). They belong to root with mode 0660, so uid 0
// needs no capability; connecting writes nothing, so a read-only mount is enough.
const (
	agentSocket  = "cilium.sock"
	healthSocket = "health.sock"
)

const (
	// socketPatience bounds all that is asked at one socket. Cilium answers from what it has collected before, in a millisecond.
	socketPatience = 5 * time.Second
	// maxAnswer bounds an answer in bytes. A status is 50 KiB on a full node; Cilium's health has 700 bytes for each of its nodes,
	// 3.5 MiB with 5,000.
	maxAnswer = 16 << 20
	// MaxSilence is how old the liveness of an agent that lives may be. It stamps it every second (Cilium pkg/maps/configmap); five
	// leave room for a loaded node.
	MaxSilence = 5 * time.Second
)

// lookStatus asks Cilium's agent about itself. One that has not stamped its liveness lately is not asked: it would not answer, and
// waiting for it would make every look slow.
func lookStatus(run string, l Liveness) CiliumStatus {
	switch {
	case run == "":
		return CiliumStatus{Look: Look{Detail: "its runtime directory is not mounted here"}}
	case l.Sight != Seen || l.Stamp == 0 || l.Now-l.Stamp > MaxSilence:
		return CiliumStatus{Look: Look{Detail: "it does not live"}}
	}
	s := at(run, agentSocket)
	var out CiliumStatus
	err := s.ask("/v1/healthz", func(r io.Reader) (err error) { out, err = decodeStatus(r); return err })
	if err == nil {
		err = s.ask("/v1/config", func(r io.Reader) (err error) { out.DeviceMTU, out.RouteMTU, err = decodeConfig(r); return err })
	}
	if err != nil {
		out = CiliumStatus{NotAllowed: errors.Is(err, fs.ErrPermission)}
	}
	out.Look = socketLook(err)
	return out
}

// lookHealth asks for what Cilium's own probes of the other nodes have found. It asks for no new ones, which would go to every node
// of the cluster (PUT /v1beta/status/probe). It is the same process that answers, so one whose status was not seen is not asked.
func lookHealth(run string, s CiliumStatus) CiliumHealth {
	if s.Sight != Seen {
		return CiliumHealth{Look: Look{Detail: "its status was not seen"}}
	}
	var out CiliumHealth
	err := at(run, healthSocket).ask("/v1beta/status", func(r io.Reader) (err error) { out, err = decodeHealth(r); return err })
	if err != nil {
		out = CiliumHealth{}
	}
	out.Look = socketLook(err)
	return out
}

// alienError says that whoever answered is not Cilium, or one that is not known here.
type alienError struct{ error }

func (e alienError) Unwrap() error { return e.error }

// socketLook sorts an error of a socket.
func socketLook(err error) Look {
	alien := alienError{}
	switch {
	case err == nil:
		return Look{Sight: Seen}
	case errors.As(err, &alien):
		return Look{Alien, err.Error()}
	case errors.Is(err, fs.ErrNotExist):
		return Look{Absent, err.Error()}
	}
	return failed(err)
}

// socket is a unix socket at which one asks, in all, until a moment.
type socket struct {
	path  string
	until time.Time
}

func at(run, name string) socket {
	return socket{filepath.Join(run, name), time.Now().Add(socketPatience)}
}

// ask asks with GET and gives the answer to decode.
func (s socket) ask(of string, decode func(io.Reader) error) error {
	conn, err := (&net.Dialer{Deadline: s.until}).Dial("unix", s.path)
	if err != nil {
		return fmt.Errorf("asking for %s: %w", of, err)
	}
	defer conn.Close()
	request, err := http.NewRequest(http.MethodGet, "http://cilium"+of, nil)
	if err == nil {
		err = conn.SetDeadline(s.until)
	}
	if err == nil {
		request.Close = true
		err = request.Write(conn)
	}
	if err != nil {
		return fmt.Errorf("asking %s for %s: %w", s.path, of, err)
	}
	err = read(&bounded{conn, maxAnswer}, request, decode)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("reading the answer of %s to %s: %w", s.path, of, err)
	}
	return alienError{fmt.Errorf("reading the answer of %s to %s: %w", s.path, of, err)}
}

// read reads one answer and gives its body to decode.
func read(r io.Reader, to *http.Request, decode func(io.Reader) error) error {
	response, err := http.ReadResponse(bufio.NewReader(r), to)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d", response.StatusCode)
	}
	return decode(response.Body)
}

// bounded ends with an error where an answer, its head included, is longer than any of Cilium's.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("it is longer than %d MiB", maxAnswer>>20)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// decodeStatus reads a StatusResponse (Cilium api/v1/models).
func decodeStatus(r io.Reader) (CiliumStatus, error) {
	var o struct {
		Cilium struct {
			State string `json:"state"`
			Msg   string `json:"msg"`
		} `json:"cilium"`
		KubeProxyReplacement struct {
			Features struct {
				SocketLB *struct {
					Enabled bool `json:"enabled"`
				} `json:"socketLB"`
			} `json:"features"`
		} `json:"kube-proxy-replacement"`
	}
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		return CiliumStatus{}, err
	}
	out := CiliumStatus{State: o.Cilium.State, Message: o.Cilium.Msg}
	switch out.State {
	case "Ok", "Warning", "Failure", "Disabled":
	default:
		return CiliumStatus{}, fmt.Errorf("cilium.state is %.40q and none of Ok, Warning, Failure and Disabled", out.State)
	}
	if lb := o.KubeProxyReplacement.Features.SocketLB; lb != nil { // left out of a brief answer, and before the first full one
		out.SocketLB = &lb.Enabled
	}
	return out, nil
}

// decodeConfig reads the two MTUs of a DaemonConfiguration (Cilium api/v1/models), in bytes.
func decodeConfig(r io.Reader) (device, route int, err error) {
	var o struct {
		Status struct {
			DeviceMTU int `json:"deviceMTU"`
			RouteMTU  int `json:"routeMTU"`
		} `json:"status"`
	}
	if err := json.NewDecoder(r).Decode(&o); err != nil {
		return 0, 0, err
	}
	if d, r := o.Status.DeviceMTU, o.Status.RouteMTU; d <= 0 || r <= 0 || r > d {
		return 0, 0, fmt.Errorf("status has a device MTU of %d and a route MTU of %d", d, r)
	}
	return o.Status.DeviceMTU, o.Status.RouteMTU, nil
}

// healthPath is a PathStatus (Cilium api/v1/health/models). An empty status means that the probe was answered.
type healthPath struct {
	ICMP, HTTP *struct {
		Status string `json:"status"`
	}
}

func (p *healthPath) probed() bool { return p != nil && (p.ICMP != nil || p.HTTP != nil) }

func (p *healthPath) reached() bool {
	return p != nil && (p.ICMP != nil && p.ICMP.Status == "" || p.HTTP != nil && p.HTTP.Status == "")
}

// decodeHealth reads a HealthStatusResponse (Cilium api/v1/health/models) node by node, so that thousands never lie in memory. The
// node's own entry, which never leaves it, is left out; its name comes first, as in every answer of Cilium's.
func decodeHealth(r io.Reader) (CiliumHealth, error) {
	dec := json.NewDecoder(r)
	if err := expect(dec, json.Delim('{')); err != nil {
		return CiliumHealth{}, err
	}
	var (
		out   CiliumHealth
		local struct{ Name string }
		named bool
	)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return CiliumHealth{}, err
		}
		switch key {
		case "local":
			named = true
			err = dec.Decode(&local)
		case "nodes":
			if !named {
				return CiliumHealth{}, errors.New("its nodes come before its own name")
			}
			err = decodeNodes(dec, local.Name, &out)
		case "timestamp":
			err = dec.Decode(&out.At)
		case "probeInterval":
			var text string
			if err = dec.Decode(&text); err == nil {
				out.Interval, err = time.ParseDuration(text)
			}
		default:
			err = dec.Decode(new(json.RawMessage))
		}
		if err != nil {
			return CiliumHealth{}, err
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return CiliumHealth{}, err
	}
	if out.At.IsZero() && out.Hosts+out.Endpoints > 0 || out.Interval < 0 {
		return CiliumHealth{}, fmt.Errorf("it was probed at %s, every %s", out.At, out.Interval)
	}
	return out, nil
}

func decodeNodes(dec *json.Decoder, self string, out *CiliumHealth) error {
	first, err := dec.Token()
	if err != nil || first == nil { // null, before the first probes
		return err
	}
	if first != json.Delim('[') {
		return fmt.Errorf("found %v where its nodes should be", first)
	}
	for dec.More() {
		var n struct {
			Name string
			Host struct {
				PrimaryAddress *healthPath `json:"primary-address"`
			}
			Endpoint *healthPath
		}
		if err := dec.Decode(&n); err != nil {
			return err
		}
		if n.Name == self {
			continue
		}
		if n.Host.PrimaryAddress.probed() {
			out.Hosts++
		}
		if n.Host.PrimaryAddress.reached() {
			out.HostsReached++
		}
		if n.Endpoint.probed() {
			out.Endpoints++
		}
		if n.Endpoint.reached() {
			out.EndpointsReached++
		}
	}
	return expect(dec, json.Delim(']'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("found %v where %v should be", got, want)
	}
	return nil
}
