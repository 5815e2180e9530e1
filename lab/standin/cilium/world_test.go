// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

// vpcMTU is that of the fake nodes' NICs, in bytes.
const vpcMTU = 9001

// process is a child of the test that dies with it and answers line by line.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// spawn starts this program in another role, and waits for its first line.
func spawn(t *testing.T, role string, attr *syscall.SysProcAttr, prefix ...string) *process {
	t.Helper()
	argv := append(prefix, "/proc/self/exe")
	if len(prefix) > 0 {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		argv[len(argv)-1] = self
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s:\n%s", role, cmd.Args, &complaints)
		}
	})
	return p
}

// kill ends the process as a crash would, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.out.Scan() {
		t.Fatalf("%v ended: %v", p.cmd.Args, p.out.Err())
	}
	return p.out.Text()
}

func (p *process) ask(t *testing.T, command string) string {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		t.Fatal(err)
	}
	return p.line(t)
}

// node is a machine of the test: namespaces, a NIC on the common bridge, an agent.
type node struct {
	holder *process
	agent  *process
	self   datapath.Node
	dir    string
	net    *netlink.Handle
}

// fabric is a namespace with a bridge that joins the nodes.
func fabric(t *testing.T) *netlink.Handle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	space, err := netns.New()
	if err != nil {
		t.Fatalf("making a network namespace (these tests need root): %v", err)
	}
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	handle, err := netlink.NewHandleAt(space)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handle.Close(); space.Close() })
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "vpc", vpcMTU
	must(t, handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	must(t, handle.LinkSetUp(&netlink.Bridge{LinkAttrs: attrs}))
	return handle
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newNode(t *testing.T, vpc *netlink.Handle, name string, number int) *node {
	t.Helper()
	n := &node{
		holder: spawn(t, "node", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS}),
		dir:    t.TempDir(),
		self: datapath.Node{
			Name: name, IP: netip.AddrFrom4([4]byte{192, 168, 7, byte(number)}),
			PodCIDR: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(number), 0}), 24)},
		},
	}
	n.holder.line(t)
	bridge, err := vpc.LinkByName("vpc")
	must(t, err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = name, vpcMTU, bridge.Attrs().Index
	port := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerMTU: vpcMTU, PeerNamespace: netlink.NsPid(n.holder.cmd.Process.Pid)}
	must(t, vpc.LinkAdd(port))
	must(t, vpc.LinkSetUp(port))
	space, err := netns.GetFromPid(n.holder.cmd.Process.Pid)
	must(t, err)
	defer space.Close()
	n.net, err = netlink.NewHandleAt(space)
	must(t, err)
	t.Cleanup(n.net.Close)
	for _, link := range []string{"lo", "eth0"} {
		l, err := n.net.LinkByName(link)
		must(t, err)
		must(t, n.net.LinkSetUp(l))
		if link == "eth0" {
			address, err := netlink.ParseAddr(n.self.IP.String() + "/24")
			must(t, err)
			must(t, n.net.AddrAdd(l, address))
		}
	}
	return n
}

// enter is the command that runs another one on the node.
func (n *node) enter() []string {
	return []string{"nsenter", "-t", strconv.Itoa(n.holder.cmd.Process.Pid), "-n", "-m", "--"}
}

// startAgent starts the node's agent and learns the addresses that it announces.
func (n *node) startAgent(t *testing.T, delay time.Duration) {
	t.Helper()
	n.agent = spawn(t, "agent", &syscall.SysProcAttr{}, n.enter()...)
	order := agentOrder{Self: n.self, Settings: agentSettings{RunDir: n.dir, Conflist: filepath.Join(n.dir, "05-cilium.conflist"), Delay: delay}}
	must(t, json.NewEncoder(n.agent.in).Encode(order))
	must(t, json.Unmarshal([]byte(n.agent.line(t)), &n.self))
}

func (n *node) tellPeers(t *testing.T, peers ...*node) {
	t.Helper()
	list := []datapath.Node{}
	for _, peer := range peers {
		list = append(list, peer.self)
	}
	must(t, json.NewEncoder(n.agent.in).Encode(list))
}

// api asks the node's agent over its socket, waiting for one that is starting.
func (n *node) api(t *testing.T, path string, into any) {
	t.Helper()
	c := newClient(filepath.Join(n.dir, "cilium.sock"))
	must(t, c.retry(t.Context(), func() error { return c.call(t.Context(), http.MethodGet, path, nil, into) }))
}

// pod is a pod of a node.
type pod struct {
	process *process
	id      string
	ip      netip.Addr
	on      *node
}

func (n *node) newPod(t *testing.T, id string) *pod {
	t.Helper()
	p := &pod{id: id, on: n, process: spawn(t, "pod", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})}
	p.process.line(t)
	output, err := p.plugin(t, "ADD")
	must(t, err)
	var result struct {
		CNIVersion string
		IPs        []struct{ Address string }
	}
	must(t, json.Unmarshal(output, &result))
	if len(result.IPs) != 1 || result.CNIVersion != "0.3.1" {
		t.Fatalf("ADD answered %s, want one address in the format 0.3.1", output)
	}
	p.ip = netip.MustParsePrefix(result.IPs[0].Address).Addr()
	if got := p.process.ask(t, "serve"); got != "ok" {
		t.Fatalf("starting the pod's server: %s", got)
	}
	return p
}

// plugin runs cilium-cni on the pod's node as a runtime does.
func (p *pod) plugin(t *testing.T, command string) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	argv := append(p.on.enter(), self)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"=cni", "CILIUM_SOCK="+filepath.Join(p.on.dir, "cilium.sock"),
		"CNI_COMMAND="+command, "CNI_CONTAINERID="+p.id, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		fmt.Sprintf("CNI_NETNS=/proc/%d/ns/net", p.process.cmd.Process.Pid),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME="+p.id)
	cmd.Stdin = strings.NewReader(`{"cniVersion":"0.3.1","name":"cilium","type":"cilium-cni","enable-debug":false}`)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", command, err, out.Bytes(), complaint.Bytes())
	}
	return out.Bytes(), nil
}

// get lets the pod fetch from another one.
func (p *pod) get(t *testing.T, from netip.Addr, path string) string {
	t.Helper()
	return p.process.ask(t, fmt.Sprintf("http://%s:8080%s", from, path))
}

// run runs a program of the machine on the node.
func (n *node) run(t *testing.T, argv ...string) string {
	t.Helper()
	argv = append(n.enter(), argv...)
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return string(out)
}

// bpffs is the node's bpffs as seen from the test.
func (n *node) bpffs(elem ...string) string {
	return filepath.Join(append([]string{fmt.Sprintf("/proc/%d/root/sys/fs/bpf", n.holder.cmd.Process.Pid)}, elem...)...)
}
