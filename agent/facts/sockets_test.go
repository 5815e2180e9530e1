// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
	"github.com/cni-cutover/cni-cutover/internal/btfobject"
)

// runDir makes a runtime directory whose path leaves room for a socket's name: sun_path takes 107 bytes.
func runDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "run")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// serve answers at a socket as Cilium does, until the test ends.
func serve(t testing.TB, path string, answers map[string]string) {
	t.Helper()
	mux := http.NewServeMux()
	for of, answer := range answers {
		mux.HandleFunc("GET "+of, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
	}
	listen(t, path, mux)
}

func listen(t testing.TB, path string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// raw says something to the first who comes, whatever was asked.
func raw(t testing.TB, path, words string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1<<10))
		_, _ = io.WriteString(conn, words) // whoever has heard enough hangs up
		conn.Close()
	}()
}

// Answers as Cilium 1.18.11, 1.19.0 and 1.20.2 write them (api/v1/models, api/v1/health/models), with as much around what is read
// as shows that it is skipped.
const (
	healthz = `{"attach-mode":"tcx","cilium":{"msg":"1.18.11 (v1.18.11-1bcbd4ad)","state":"Ok"},"controllers":[{"name":"x","status":{"success-count":3}}],` +
		`"kube-proxy-replacement":{"deviceList":[{"ip":["10.0.1.10"],"name":"ens5"}],"features":{"nodePort":{"enabled":true},"socketLB":%s},"mode":"False"},"stale":{}}`
	config     = `{"spec":{"options":{"Debug":"Disabled"}},"status":{"daemonConfigurationMap":{"EnableIPv4":true},"deviceMTU":9001,"ipam-mode":"cluster-pool","routeMTU":8951}}`
	healthHead = `{"local":{"name":"default/n1"},"nodes":[`
	healthNode = `{"endpoint":{"http":{"lastProbed":"2026-11-22T03:00:00Z","latency":5,%[2]s},"ip":"10.244.2.5"},"health-endpoint":{"primary-address":{"ip":"10.244.2.5"},` +
		`"secondary-addresses":[]},"host":{"primary-address":{"http":{"latency":3},"icmp":{"status":%[3]q},"ip":"10.0.2.10"},"secondary-addresses":[]},"name":"default/%[1]s"}`
	healthTail = `],"probeInterval":"1m14s","timestamp":"2026-11-22T03:00:00Z"}`
)

func TestAsksCiliumsAgentWithoutAnyCapability(t *testing.T) {
	needsRoot(t)
	alive := Liveness{Look: Look{Sight: Seen}, Stamp: time.Hour, Now: time.Hour + time.Second}
	on, off := true, false
	for name, c := range map[string]struct {
		features string
		want     *bool
	}{
		"sockets translate": {`{"enabled":true}`, &on}, "sockets do not": {`{}`, &off}, "it does not say": {`null`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			run := runDir(t)
			serve(t, filepath.Join(run, agentSocket), map[string]string{"/v1/healthz": fmt.Sprintf(healthz, c.features), "/v1/config": config})
			must(t, os.Chmod(filepath.Join(run, agentSocket), 0o660))
			must(t, unix.Mount(run, run, "", unix.MS_BIND, ""))
			t.Cleanup(func() { must(t, unix.Unmount(run, unix.MNT_DETACH)) })
			must(t, unix.Mount("", run, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			var got CiliumStatus
			withoutCapabilities(t, func() { got = lookStatus(run, alive) })
			want := CiliumStatus{Look: Look{Sight: Seen}, State: "Ok", Message: "1.18.11 (v1.18.11-1bcbd4ad)", SocketLB: c.want, DeviceMTU: 9001, RouteMTU: 8951}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatASocketDoesNotSay(t *testing.T) {
	needsRoot(t)
	answers := func(healthz, config string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			serve(t, path, map[string]string{"/v1/healthz": healthz, "/v1/config": config})
		}
	}
	handler := func(h http.HandlerFunc) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { listen(t, path, h) }
	}
	ok := fmt.Sprintf(healthz, "{}")
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want Sight
		says string
	}{
		"no socket": {func(*testing.T, string) {}, Absent, "no such file"},
		"nobody behind the socket": {func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			must(t, err)
			l.SetUnlinkOnClose(false)
			must(t, l.Close())
		}, Failed, "refused"},
		"a file":                 {func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, Failed, "refused"},
		"an error of the server": {handler(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }), Alien, "answers 500"},
		"another place": {handler(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/", http.StatusFound)
		}), Alien, "answers 302"},
		"no JSON":                     {answers("Ok", config), Alien, "invalid character"},
		"half of an answer":           {answers(ok[:len(ok)/2], config), Alien, "unexpected EOF"},
		"another kind of answer":      {answers(`[]`, config), Alien, "cannot unmarshal"},
		"nothing of what it should":   {answers(`{}`, config), Alien, `cilium.state is ""`},
		"a state that nobody knows":   {answers(`{"cilium":{"state":"`+strings.Repeat("x", 9000)+`"}}`, config), Alien, "xxx"},
		"a nest":                      {answers(strings.Repeat("[", 100_000), config), Alien, "depth"},
		"no MTU":                      {answers(ok, `{"status":{}}`), Alien, "device MTU of 0"},
		"a tunnel wider than the NIC": {answers(ok, `{"status":{"deviceMTU":1500,"routeMTU":9001}}`), Alien, "route MTU of 9001"},
		"no configuration":            {func(t *testing.T, path string) { serve(t, path, map[string]string{"/v1/healthz": ok}) }, Alien, "answers 404"},
		"an answer without an end":    {handler(endless), Alien, "longer than 16 MiB"},
		"a head without an end": {func(t *testing.T, path string) {
			raw(t, path, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", maxAnswer))
		}, Alien, "longer than 16 MiB"},
		"no HTTP":   {func(t *testing.T, path string) { raw(t, path, "220 mail.example.org ESMTP\r\n") }, Alien, "malformed HTTP"},
		"no answer": {handler(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), Failed, "timeout"},
		"an answer that stops half way": {handler(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, ok[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), Failed, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := runDir(t)
			c.make(t, filepath.Join(run, agentSocket))
			got := lookStatus(run, Liveness{Look: Look{Sight: Seen}, Stamp: time.Hour, Now: time.Hour})
			if got.Sight != c.want || !strings.Contains(got.Detail, c.says) || got.State != "" || got.NotAllowed {
				t.Errorf("%+v, want sight %d and %q", got, c.want, c.says)
			}
		})
	}
}

// endless answers with one string that never ends.
func endless(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, `{"cilium":{"msg":"`)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat("x", 64<<10)); err != nil {
			return
		}
	}
}

func TestASocketThatIsAnothersIsNotAllowed(t *testing.T) {
	needsRoot(t)
	run := runDir(t)
	path := filepath.Join(run, agentSocket)
	serve(t, path, map[string]string{"/v1/healthz": fmt.Sprintf(healthz, "{}"), "/v1/config": config})
	must(t, os.Chown(path, 1000, 1000))
	must(t, os.Chmod(path, 0o600))
	var got CiliumStatus
	withoutCapabilities(t, func() { got = lookStatus(run, Liveness{Look: Look{Sight: Seen}, Stamp: time.Hour, Now: time.Hour}) })
	if got.Sight != Failed || !got.NotAllowed {
		t.Errorf("%+v", got)
	}
}

// TestWhoDoesNotLiveIsNotAsked: a stopped process takes connections and answers none of them.
func TestWhoDoesNotLiveIsNotAsked(t *testing.T) {
	run := runDir(t)
	listen(t, filepath.Join(run, agentSocket), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	for name, l := range map[string]Liveness{
		"silent": {Look: Look{Sight: Seen}, Stamp: time.Hour, Now: time.Hour + MaxSilence + 1},
		"never":  {Look: Look{Sight: Seen}, Now: time.Hour},
		"unread": {Look: Look{Sight: Failed}, Stamp: time.Hour, Now: time.Hour},
	} {
		if got := lookStatus(run, l); got.Sight != NotLooked || got.Detail == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := lookStatus("", Liveness{Look: Look{Sight: Seen}, Stamp: time.Hour, Now: time.Hour}); got.Sight != NotLooked || got.Detail == "" {
		t.Errorf("no directory: %+v", got)
	}
}

func TestReadsWhatCiliumsOwnProbesFound(t *testing.T) {
	node := func(name, endpoint, host string) string { return fmt.Sprintf(healthNode, name, endpoint, host) }
	whole, lost := `"x":0`, `"status":"Connection timed out"`
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		answer string
		want   CiliumHealth
		err    string
	}{
		"the node itself does not count": {healthHead + node("n1", whole, "") + "," + node("n2", whole, "") + healthTail, CiliumHealth{At: at, Interval: 74 * time.Second, Hosts: 1, HostsReached: 1, Endpoints: 1, EndpointsReached: 1}, ""},
		"a tunnel that is lost":          {healthHead + node("n2", lost, "no") + "," + node("n3", whole, "no") + healthTail, CiliumHealth{At: at, Interval: 74 * time.Second, Hosts: 2, HostsReached: 2, Endpoints: 2, EndpointsReached: 1}, ""},
		"a node without an endpoint":     {healthHead + `{"name":"default/n2","host":{"primary-address":{"icmp":{"status":"no"}}}}` + healthTail, CiliumHealth{At: at, Interval: 74 * time.Second, Hosts: 1}, ""},
		"a node that was not probed yet": {healthHead + `{"name":"default/n2","host":{"primary-address":{"ip":"10.0.2.10"}},"endpoint":{}},null` + healthTail, CiliumHealth{At: at, Interval: 74 * time.Second}, ""},
		"before the first round":         {`{"local":{},"nodes":null,"probeInterval":"0s","timestamp":"0001-01-01T00:00:00Z"}`, CiliumHealth{}, ""},
		"no time":                        {`{"local":{},"nodes":[{"name":"a","endpoint":{"icmp":{}}}],"probeInterval":"1s"}`, CiliumHealth{}, "it was probed at 0001"},
		"a time that is none":            {`{"local":{},"nodes":[],"timestamp":"yesterday"}`, CiliumHealth{}, "yesterday"},
		"an interval that is none":       {`{"local":{},"nodes":[],"probeInterval":"often"}`, CiliumHealth{}, "often"},
		"an interval below zero":         {`{"local":{},"nodes":[],"probeInterval":"-1m"}`, CiliumHealth{}, "every -1m"},
		"no name of its own":             {`{"nodes":[]}`, CiliumHealth{}, "before its own name"},
		"nodes that are none":            {`{"local":{},"nodes":{}}`, CiliumHealth{}, "where its nodes should be"},
		"a list":                         {`[]`, CiliumHealth{}, "where { should be"},
		"half of it":                     {healthHead + node("n2", whole, ""), CiliumHealth{}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeHealth(strings.NewReader(c.answer))
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%v, want %q", err, c.err)
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err == "":
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestTheHealthOfThousandsIsCounted: an answer of 5,000 nodes fits, one of a hundred times as many is refused.
func TestTheHealthOfThousandsIsCounted(t *testing.T) {
	run := runDir(t)
	nodes := 5000
	listen(t, filepath.Join(run, healthSocket), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, healthHead)
		for i := range nodes {
			if i > 0 {
				fmt.Fprint(w, ",")
			}
			if _, err := fmt.Fprintf(w, healthNode, fmt.Sprint("m", i), `"x":0`, ""); err != nil {
				return
			}
		}
		fmt.Fprint(w, healthTail)
	}))
	said := CiliumStatus{Look: Look{Sight: Seen}}
	if got := lookHealth(run, said); got.Sight != Seen || got.Endpoints != nodes || got.EndpointsReached != nodes {
		t.Errorf("%+v", got)
	}
	nodes = 500_000
	if got := lookHealth(run, said); got.Sight == Seen || got.Endpoints != 0 {
		t.Errorf("too many: %+v", got)
	}
	if got := lookHealth(run, CiliumStatus{}); got.Sight != NotLooked {
		t.Errorf("an agent that does not answer: %+v", got)
	}
	if got := lookHealth(runDir(t), said); got.Sight != Absent {
		t.Errorf("no socket: %+v", got)
	}
}

// FuzzSocketAnswers: whatever answers, the state is one of Cilium's, the MTUs are numbers of bytes, and no more was reached than probed.
func FuzzSocketAnswers(f *testing.F) {
	for _, s := range []string{
		fmt.Sprintf(healthz, "{}"), config, healthHead + fmt.Sprintf(healthNode, "n2", `"x":0`, "") + healthTail, `{}`, `[]`, `null`, "",
		`{"local":{},"nodes":[{"endpoint":{"ICMP":{},"icmp":null}}]}`, `{"local":null,"nodes":[null],"timestamp":"2026-11-22T03:00:00Z"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := decodeStatus(strings.NewReader(text)); err == nil && !strings.Contains("Ok Warning Failure Disabled", s.State) {
			t.Errorf("%+v", s)
		}
		if device, route, err := decodeConfig(strings.NewReader(text)); err == nil && (route <= 0 || device < route) {
			t.Errorf("%d, %d", device, route)
		}
		if h, err := decodeHealth(strings.NewReader(text)); err == nil && (h.HostsReached > h.Hosts || h.EndpointsReached > h.Endpoints || h.Interval < 0) {
			t.Errorf("%+v", h)
		}
	})
}

// TestWhatCiliumCompiledIsOneOfFour: agreed, another one's, not there, or not for us.
func TestWhatCiliumCompiledIsOneOfFour(t *testing.T) {
	needsRoot(t)
	run := runDir(t)
	if l := lookLayouts(""); l.Sight != NotLooked || l.Detail == "" {
		t.Errorf("no directory: %+v", l)
	}
	if l := lookLayouts(run); l.Sight != Absent {
		t.Errorf("no object: %+v", l)
	}
	must(t, os.Mkdir(filepath.Join(run, "state"), 0o770))
	path := filepath.Join(run, ciliummap.AlignCheckerFile)
	whole, err := btfobject.Of(&btf.Struct{Name: "ipcache_key", Size: 28})
	must(t, err)
	must(t, os.WriteFile(path, whole, 0o600))
	if l := lookLayouts(run); l.Sight != Alien || l.Detail == "" {
		t.Errorf("an object that lacks most of it: %+v", l)
	}
	must(t, os.Chown(path, 1000, 1000))
	var l Layouts
	withoutCapabilities(t, func() { l = lookLayouts(run) })
	if l.Sight != Failed || !l.NotAllowed {
		t.Errorf("an object of somebody else's: %+v", l)
	}
}
