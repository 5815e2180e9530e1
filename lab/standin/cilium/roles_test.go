// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// The test program is also every process of the little cluster it builds; this variable says which.
const roleVariable = "STANDIN_TEST_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "node":
		err = holdNode()
	case "pod":
		err = holdPod()
	case "agent":
		err = runAgent()
	case "cni":
		CNI()
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// holdNode keeps a node's namespaces until its standard input ends, that is, until its parent ends.
func holdNode() error {
	if err := unix.Mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mounting the node's bpffs: %w", err)
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// holdPod keeps a pod's namespace and does as told, a line a command: "serve" starts an HTTP server
// that answers with the address it was called from (or, at /big, a megabyte) and a UDP echo; "df SIZE
// ADDRESS" sends that echo one packet of SIZE bytes that nobody may fragment; anything else is a URL to
// get. It answers each with one line.
func holdPod() error {
	fmt.Println("ready")
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if lines.Text() == "serve" {
			listener, err := net.Listen("tcp4", ":8080")
			if err != nil {
				return err
			}
			go func() { fmt.Fprintln(os.Stderr, http.Serve(listener, podHandler())) }()
			if err := serveEcho(); err != nil {
				return err
			}
			fmt.Println("ok")
			continue
		}
		var size int
		var address string
		if n, _ := fmt.Sscanf(lines.Text(), "df %d %s", &size, &address); n == 2 {
			fmt.Println(sendWhole(size, address))
			continue
		}
		fmt.Println(get(client, lines.Text()))
	}
	return nil
}

func podHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.RemoteAddr, ":")
		fmt.Fprint(w, host)
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", megabyte)) })
	return mux
}

const megabyte = 1 << 20

func serveEcho() error {
	conn, err := net.ListenPacket("udp4", ":8081")
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo(buffer[:n], from); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	return nil
}

// sendWhole sends an IP packet of size bytes and waits for its echo.
func sendWhole(size int, address string) string {
	const headers = 20 + 8 // IPv4, UDP
	control := func(_, _ string, c syscall.RawConn) error {
		var err error
		if ctlErr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}); ctlErr != nil {
			return ctlErr
		}
		return err
	}
	conn, err := (&net.Dialer{Control: control}).Dial("udp4", address+":8081")
	if err != nil {
		return "error: " + err.Error()
	}
	defer conn.Close()
	var errno syscall.Errno
	if _, err := conn.Write(make([]byte, size-headers)); errors.As(err, &errno) {
		return "error: " + errno.Error()
	}
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "error: " + err.Error()
	}
	n, err := conn.Read(make([]byte, size))
	if err != nil || n != size-headers {
		return fmt.Sprintf("error: %d bytes, %v", n, err)
	}
	return "echoed"
}

func get(client *http.Client, url string) string {
	response, err := client.Get(url)
	if err != nil {
		return "error: " + err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "error: " + err.Error()
	}
	if len(body) > 100 {
		return fmt.Sprintf("%d bytes", len(body))
	}
	return fmt.Sprintf("%d %s", response.StatusCode, body)
}

// agentOrder is what a test agent gets instead of an API server: itself, and after that, a line
// each, sets of peers.
type agentOrder struct {
	Settings agentSettings
	Self     datapath.Node
}

type agentSettings struct {
	RunDir, Conflist string
	Delay            time.Duration
}

// staticCluster is a cluster that somebody writes to standard input.
type staticCluster struct {
	self  datapath.Node
	lines *json.Decoder
}

func (c staticCluster) join(context.Context) (datapath.Node, error) { return c.self, nil }

func (c staticCluster) announce(_ context.Context, self datapath.Node) error {
	return json.NewEncoder(os.Stdout).Encode(self)
}

func (c staticCluster) watch(ctx context.Context, changed func([]datapath.Node)) error {
	sets := make(chan []datapath.Node)
	go func() {
		defer close(sets)
		for {
			var peers []datapath.Node
			if err := c.lines.Decode(&peers); err != nil {
				return
			}
			sets <- peers
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case peers, open := <-sets:
			if !open {
				return io.EOF
			}
			changed(peers)
		}
	}
}

func runAgent() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	lines := json.NewDecoder(os.Stdin)
	var order agentOrder
	if err := lines.Decode(&order); err != nil {
		return err
	}
	a := &agent{
		settings: settings{
			node: order.Self.Name, hostRoot: "/", bpfRoot: "/sys/fs/bpf", runDir: order.Settings.RunDir,
			conflist: order.Settings.Conflist, slowDatapath: order.Settings.Delay, devices: []string{"eth+"}, tunnelPort: 8472,
		},
		cluster: staticCluster{self: order.Self, lines: lines},
		log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	return a.run(ctx)
}
