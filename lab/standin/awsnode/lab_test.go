// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

var update = flag.Bool("update", false, "write the golden files")

// TestMain is also the plugins: the daemon under test installs this very program as them.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "aws-cni":
		CNI()
	case "egress-cni":
		EgressCNI()
	default:
		os.Exit(m.Run())
	}
}

const isolatedEnv = "AWSNODE_TEST_ISOLATED"

// isolated runs the calling test again in a process with network and mount namespaces of
// its own, and returns true there. Everything the test makes ends with that process.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolatedEnv) == t.Name() {
		for _, dir := range []string{"/run", "/var/log"} { // RunDir and the plugin's log are below
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatalf("mounting a private %s: %v", dir, err)
			}
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v"}
	if *update {
		args = append(args, "-update")
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that forked
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), isolatedEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	return false
}

// testNode is a node with two interfaces in a VPC, in the test's own network namespace.
type testNode struct {
	t        *testing.T
	root     string
	instance vpc.Instance
	outside  string // path of the router's network namespace
	health   string
	stop     context.CancelFunc
	stopped  chan error
}

// Addresses in the router's namespace: a host of the VPC and one of the Internet.
const (
	vpcHost  = "10.0.200.10"
	internet = "198.51.100.1"
)

func newTestNode(t *testing.T) *testNode {
	t.Helper()
	n := &testNode{t: t, root: t.TempDir(), outside: newNetNS(t), health: "127.0.0.1:61678"}
	n.instance = vpc.Instance{ID: "i-1", VPCCIDRs: []netip.Prefix{vpc.CIDR()}, Interfaces: planned(t)}
	for i := range n.instance.Interfaces { // a small instance is full sooner
		n.instance.Interfaces[i].Secondary = n.instance.Interfaces[i].Secondary[:3]
	}
	must(t, setSysctl("net/ipv4/ip_forward", "1"))
	nodeNS, err := ns.GetCurrentNS()
	must(t, err)
	defer nodeNS.Close()
	must(t, ns.WithNetNSPath(n.outside, func(ns.NetNS) error { return n.wire(nodeNS) }))
	for _, link := range []string{"lo", "eth0", "eth1"} {
		output(t, "ip", "link", "set", link, "up")
	}
	first := n.instance.Interfaces[0]
	output(t, "ip", "address", "add", netip.PrefixFrom(first.Primary, first.Subnet.Bits()).String(), "dev", "eth0")
	output(t, "ip", "route", "add", "default", "via", first.Gateway.String())
	data, err := json.Marshal(n.instance)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(n.root, filepath.Dir(InstanceFile)), 0o755))
	must(t, os.WriteFile(filepath.Join(n.root, InstanceFile), data, 0o600))
	must(t, setupSysctls(n.instance))
	return n
}

// wire makes the VPC in the router's namespace: a port for each interface of the node, and
// the checks of EC2 (strict rp_filter against one route per address is the source check).
// Hardware addresses are static because EC2 never asks for them; two more hosts live here.
func (n *testNode) wire(node ns.NetNS) error {
	for key, value := range map[string]string{"ip_forward": "1", "conf/all/rp_filter": "1", "conf/default/rp_filter": "1", "conf/default/proxy_arp": "1"} {
		if err := setSysctl("net/ipv4/"+key, value); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	local := []string{vpcHost, internet, n.instance.Interfaces[0].Gateway.String()}
	for _, ip := range local {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: single(netip.MustParseAddr(ip))}); err != nil {
			return err
		}
	}
	for _, eni := range n.instance.Interfaces {
		if err := plug(node, eni); err != nil {
			return err
		}
	}
	return nil
}

func plug(node ns.NetNS, eni vpc.Interface) error {
	mac, err := net.ParseMAC(eni.MAC)
	if err != nil {
		return err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MTU = "to-"+eni.Name, vpc.MTU
	port := &netlink.Veth{LinkAttrs: attributes, PeerName: eni.Name, PeerMTU: vpc.MTU, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(node.Fd())}
	if err := netlink.LinkAdd(port); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(port); err != nil {
		return err
	}
	for _, ip := range eni.Addresses() {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: port.Index, Scope: netlink.SCOPE_LINK, Dst: single(ip)}); err != nil {
			return err
		}
		if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: port.Index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac}); err != nil {
			return err
		}
	}
	return nil
}

// start runs the daemon until it says that it is healthy.
func (n *testNode) start(s Settings) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	n.stop, n.stopped = cancel, make(chan error, 1)
	c := Config{
		HostRoot: n.root, CommandRoot: "/", RunDir: RunDir, HealthAddress: n.health,
		Executable: "/proc/self/exe", Settings: s, Log: slog.New(slog.NewTextHandler(n.t.Output(), nil)),
	}
	go func() { n.stopped <- Run(ctx, c) }()
	waitFor(n.t, "a healthy aws-node", func() error {
		select {
		case err := <-n.stopped:
			n.t.Fatalf("the daemon stopped: %v", err)
		default:
		}
		response, err := http.Get("http://" + n.health + "/healthz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", response.Status)
		}
		return nil
	})
}

func (n *testNode) end() {
	n.t.Helper()
	n.stop()
	must(n.t, <-n.stopped)
}

// testPod is a sandbox and what the runtime passes for it.
type testPod struct {
	netns   string
	runtime *libcni.RuntimeConf
	ip      string
}

func (n *testNode) cni() (*libcni.CNIConfig, *libcni.NetworkConfigList) {
	n.t.Helper()
	list, err := libcni.ConfListFromFile(filepath.Join(n.root, NetDir, Conflist))
	must(n.t, err)
	return libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(n.root, BinDir)}, filepath.Join(n.root, "cache"), nil), list
}

func (n *testNode) tryAdd(name string) (*testPod, error) {
	n.t.Helper()
	pod := &testPod{netns: newNetNS(n.t)}
	pod.runtime = &libcni.RuntimeConf{
		ContainerID: "box-" + name, NetNS: pod.netns, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", name}, {"K8S_POD_INFRA_CONTAINER_ID", "box-" + name}},
	}
	plugins, list := n.cni()
	result, err := plugins.AddNetworkList(n.t.Context(), list, pod.runtime)
	if err != nil {
		return nil, err
	}
	var text struct {
		IPs []struct{ Address string }
	}
	data, err := json.Marshal(result)
	must(n.t, err)
	must(n.t, json.Unmarshal(data, &text))
	pod.ip, _, _ = strings.Cut(text.IPs[0].Address, "/")
	return pod, nil
}

func (n *testNode) add(name string) *testPod {
	n.t.Helper()
	pod, err := n.tryAdd(name)
	must(n.t, err)
	return pod
}

func (n *testNode) del(pod *testPod) error {
	plugins, list := n.cni()
	return plugins.DelNetworkList(n.t.Context(), list, pod.runtime)
}

// newNetNS makes a network namespace and returns a path that leads to it.
func newNetNS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(path, nil, 0o600))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with its goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { must(t, unix.Unmount(path, unix.MNT_DETACH)) })
	return path
}

// serve answers every TCP connection to port 80 in the namespace with the client's address, then echoes.
func serve(t *testing.T, netns string) {
	t.Helper()
	var listener net.Listener
	must(t, ns.WithNetNSPath(netns, func(ns.NetNS) (err error) {
		listener, err = net.Listen("tcp", "0.0.0.0:80")
		return err
	}))
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
				if _, err := fmt.Fprintf(conn, "%-15s", host); err == nil {
					_, _ = io.Copy(conn, conn)
				}
			}()
		}
	}()
}

// dial connects from the namespace to port 80 and returns the source address that the server saw.
func dial(t *testing.T, netns, ip string) (net.Conn, string) {
	t.Helper()
	var conn net.Conn
	must(t, ns.WithNetNSPath(netns, func(ns.NetNS) (err error) {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", ip+":80")
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	var source [15]byte
	_, err := io.ReadFull(conn, source[:])
	must(t, err)
	return conn, strings.TrimSpace(string(source[:]))
}

func waitFor(t *testing.T, what string, look func() error) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	data, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, data)
	}
	return string(data)
}
