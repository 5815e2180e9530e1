// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-cutover/cni-cutover/internal/golden"
)

// sample returns a real file from testdata.
func sample(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatalf("reading a sample: %v", err)
	}
	return string(b)
}

// netd builds a listed directory of regular files from name, content pairs, in the order given.
func netd(pairs ...string) Directory {
	d := Directory{Path: "/etc/cni/net.d", Listing: Listed, Looks: 2}
	for i := 0; i < len(pairs); i += 2 {
		d.Entries = append(d.Entries, Entry{Name: pairs[i], Bytes: []byte(pairs[i+1]), Size: int64(len(pairs[i+1]))})
	}
	return d
}

// with adds entries that are not plain files.
func (d Directory) with(entries ...Entry) Directory {
	d.Entries = append(d.Entries, entries...)
	return d
}

func conflist(name string, plugins ...string) string {
	var p []string
	for _, t := range plugins {
		p = append(p, fmt.Sprintf(`{"type":%q}`, t))
	}
	return fmt.Sprintf(`{"cniVersion":"0.4.0","name":%q,"plugins":[%s]}`, name, strings.Join(p, ","))
}

type scenario struct {
	name    string
	dir     Directory
	state   State
	winner  string // "file kind podnetwork"
	next    string // "file condition"
	ignored int
	left    int
}

func scenarios(t testing.TB) []scenario {
	cilium, aws := sample(t, "05-cilium.conflist"), sample(t, "10-aws.conflist")
	chained := conflist("aws-cni", "aws-cni", "portmap", "cilium-cni")
	multus := func(options string) string {
		return `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus",` + options + `}`
	}
	shim := `{"cniVersion":"0.3.1","name":"multus-cni-network","plugins":[{"type":"multus-shim","clusterNetwork":"/host/etc/cni/net.d/%s"}]}`
	const c5, a10 = "05-cilium.conflist", "10-aws.conflist"
	return []scenario{
		// The migration, as it goes.
		{name: "the VPC CNI alone", dir: netd(a10, aws), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "both and Cilium sorts first", dir: netd(a10, aws, c5, cilium), state: Ready, winner: "05-cilium.conflist Cilium Cilium", next: "10-aws.conflist Loads", ignored: 1},
		{name: "Cilium alone with the VPC CNI set aside", dir: netd(c5, cilium, "10-aws.conflist.cilium_bak", aws), state: Ready, winner: "05-cilium.conflist Cilium Cilium", left: 1},
		{name: "Cilium set the VPC CNI aside and wrote nothing yet", dir: netd("10-aws.conflist.cilium_bak", aws), state: Empty, left: 1},
		{name: "Cilium's legacy file sorts before its list", dir: netd(c5, cilium, "05-cilium.conf", `{"cniVersion":"0.3.1","name":"cilium","type":"cilium-cni"}`), state: Ready, winner: "05-cilium.conf Cilium Cilium", next: "05-cilium.conflist Loads", ignored: 1},
		{name: "Cilium with portmap behind it", dir: netd(c5, conflist("cilium", "cilium-cni", "portmap")), state: Ready, winner: "05-cilium.conflist Cilium Cilium"},
		{name: "Cilium chained behind the VPC CNI", dir: netd(c5, chained, a10, aws), state: Ready, winner: "05-cilium.conflist ChainedCilium ChainedCilium", next: "10-aws.conflist Loads", ignored: 1},
		{name: "Cilium chained behind flannel", dir: netd(c5, conflist("generic-veth", "flannel", "cilium-cni")), state: Ready, winner: "05-cilium.conflist ChainedCilium ChainedCilium"},
		{name: "a mesh chained behind the VPC CNI changes nothing", dir: netd(a10, conflist("aws-cni", "aws-cni", "portmap", "istio-cni")), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "Calico left behind", dir: netd(a10, aws, "10-calico.conflist", conflist("k8s-pod-network", "calico", "portmap"), "calico-kubeconfig", ""), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI", next: "10-calico.conflist Loads", ignored: 1, left: 1},
		{name: "another CNI in front", dir: netd("00-weave.conflist", conflist("weave", "weave-net"), a10, aws), state: Ready, winner: "00-weave.conflist OtherCNI OtherCNI", next: "10-aws.conflist Loads", ignored: 1},

		// Multus.
		{name: "Multus with a copy of the VPC CNI", dir: netd("00-multus.conf", multus(`"readinessindicatorfile":"/host/etc/cni/net.d/10-aws.conflist","delegates":[`+aws+`]`), c5, cilium, a10, aws), state: Ready, winner: "00-multus.conf Multus VPCCNI", next: "05-cilium.conflist Loads", ignored: 2},
		{name: "Multus with a single delegate", dir: netd("00-multus.conf", multus(`"delegates":[{"type":"cilium-cni"},{"type":"aws-cni"}]`)), state: Ready, winner: "00-multus.conf Multus Cilium"},
		{name: "Multus' shim pointing at a file here", dir: netd("00-multus.conflist", fmt.Sprintf(shim, c5), c5, cilium), state: Ready, winner: "00-multus.conflist Multus Cilium", next: "05-cilium.conflist Loads", ignored: 1},
		{name: "Multus' shim pointing at a file that is gone", dir: netd("00-multus.conflist", fmt.Sprintf(shim, a10), c5, cilium), state: Ready, winner: "00-multus.conflist Multus KindUnknown", next: "05-cilium.conflist Loads", ignored: 1},
		{name: "Multus' shim pointing at a file that refuses pods", dir: netd("00-multus.conflist", fmt.Sprintf(shim, a10), a10, conflist("", "aws-cni")), state: Ready, winner: "00-multus.conflist Multus KindUnknown", next: "10-aws.conflist Refuses", ignored: 1},
		{name: "Multus with a named cluster network", dir: netd("00-multus.conf", multus(`"clusterNetwork":"default"`)), state: Ready, winner: "00-multus.conf Multus KindUnknown"},
		{name: "Multus' own directory is another", dir: netd("00-multus.conf", multus(`"clusterNetwork":"/etc/cni/multus/net.d/10-aws.conflist"`), a10, aws), state: Ready, winner: "00-multus.conf Multus KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "Multus with a daemon that knows", dir: netd("00-multus.conf", `{"cniVersion":"0.3.1","name":"m","type":"multus-shim"}`), state: Ready, winner: "00-multus.conf Multus KindUnknown"},
		{name: "Multus with nothing to ask", dir: netd("00-multus.conf", multus(`"logLevel":"debug"`)), state: Refusing, winner: "00-multus.conf Multus KindUnknown"},
		{name: "Multus with options it cannot parse", dir: netd("00-multus.conf", multus(`"delegates":"all"`)), state: Refusing, winner: "00-multus.conf Multus KindUnknown"},
		{name: "Multus with an empty delegate", dir: netd("00-multus.conf", multus(`"delegates":[{}]`)), state: Refusing, winner: "00-multus.conf Multus KindUnknown"},
		{name: "Multus asking itself", dir: netd("00-multus.conf", multus(`"delegates":[{"type":"multus"}]`)), state: Ready, winner: "00-multus.conf Multus KindUnknown"},

		// A broken first file.
		{name: "an empty first file", dir: netd(c5, "", a10, aws), state: NoNetwork, winner: "05-cilium.conflist KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "a truncated first file", dir: netd(c5, cilium[:90], a10, aws), state: NoNetwork, winner: "05-cilium.conflist KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "no name", dir: netd(a10, `{"plugins":[{"type":"aws-cni"}]}`), state: NoNetwork, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "no plugins", dir: netd(a10, `{"name":"x"}`), state: NoNetwork, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "an empty plugin list", dir: netd(a10, `{"name":"x","plugins":[]}`), state: NoNetwork, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "a plugin without a type", dir: netd(a10, `{"name":"x","plugins":[{"type":"aws-cni"},{}]}`), state: NoNetwork, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "a list in a .conf", dir: netd("10-aws.conf", aws), state: NoNetwork, winner: "10-aws.conf KindUnknown KindUnknown"},
		{name: "a plugin in a .conflist", dir: netd(c5, `{"name":"cilium","type":"cilium-cni"}`), state: NoNetwork, winner: "05-cilium.conflist KindUnknown KindUnknown"},
		{name: "a broken second file waits", dir: netd(c5, cilium, a10, "{"), state: Ready, winner: "05-cilium.conflist Cilium Cilium", next: "10-aws.conflist Broken", ignored: 1},
		{name: "a hidden file counts", dir: netd(".conflist", "{", c5, cilium), state: NoNetwork, winner: ".conflist KindUnknown KindUnknown", next: "05-cilium.conflist Loads", ignored: 1},
		{name: "a dangling link", dir: netd(a10, aws).with(Entry{Name: "00-x.conf", Type: Link, Target: "gone", Problem: Dangling}), state: NoNetwork, winner: "00-x.conf KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "a link to itself", dir: netd().with(Entry{Name: "00-x.conf", Type: Link, Target: "00-x.conf", Problem: Loop}), state: NoNetwork, winner: "00-x.conf KindUnknown KindUnknown"},
		{name: "a FIFO", dir: netd(a10, aws).with(Entry{Name: "00-x.conf", Type: Other, Problem: Special, Detail: "a FIFO"}), state: NoNetwork, winner: "00-x.conf KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "nonsense names stay printable", dir: netd("00-\x00\xff\n"+strings.Repeat("x", 200)+".conf", "\x00"), state: NoNetwork, winner: "00-\x00\xff\n" + strings.Repeat("x", 200) + ".conf KindUnknown KindUnknown"},

		// A file that loads and serves nobody.
		{name: "an empty name", dir: netd(a10, conflist("", "aws-cni")), state: Refusing, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "a plugin without a name", dir: netd("10-x.conf", `{"type":"bridge"}`), state: Refusing, winner: "10-x.conf OtherCNI OtherCNI"},
		{name: "a name with a space", dir: netd(a10, conflist("my net", "aws-cni")), state: Refusing, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "a plugin given as a path", dir: netd(a10, conflist("x", "/opt/cni/bin/aws-cni")), state: Refusing, winner: "10-aws.conflist OtherCNI OtherCNI"},
		{name: "a version nobody released", dir: netd(a10, strings.Replace(aws, "0.4.0", "0.4", 1)), state: Refusing, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "a version yet to come", dir: netd(a10, strings.Replace(aws, "0.4.0", "1.2.0", 1)), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "no version", dir: netd("10-x.conf", `{"name":"x","type":"bridge"}`), state: Ready, winner: "10-x.conf OtherCNI OtherCNI"},

		// Names.
		{name: "87 sorts before 9", dir: netd("9-a.conflist", conflist("a", "aws-cni"), "87-b.conflist", conflist("b", "cilium-cni")), state: Ready, winner: "87-b.conflist Cilium Cilium", next: "9-a.conflist Loads", ignored: 1},
		{name: "capitals sort before small letters", dir: netd("a.conf", `{"name":"a","type":"aws-cni"}`, "B.conf", `{"name":"b","type":"bridge"}`), state: Ready, winner: "B.conf OtherCNI OtherCNI", next: "a.conf Loads", ignored: 1},
		{name: "json counts", dir: netd("00.json", `{"name":"a","type":"ptp"}`, a10, aws), state: Ready, winner: "00.json OtherCNI OtherCNI", next: "10-aws.conflist Loads", ignored: 1},
		{name: "other extensions do not", dir: netd(a10, aws, ".05-cilium.conflist123", "{", "05.conflist.bak", "{", "README", "x", "x.CONF", "{"), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI", left: 2},
		{name: "a directory with the name of a file", dir: netd(a10, aws).with(Entry{Name: "00-x.conflist", Type: Dir}), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI", left: 1},

		// Plugins from the network's own directory.
		{name: "plugins beside the list", dir: netd(a10, `{"name":"aws-cni"}`).with(Entry{Name: "aws-cni", Type: Dir, Sub: []Entry{{Name: "10.conf", Bytes: []byte(`{"type":"aws-cni"}`)}}}), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI"},
		{name: "a broken plugin beside the list", dir: netd(a10, aws).with(Entry{Name: "aws-cni", Type: Dir, Sub: []Entry{{Name: "10.conf", Bytes: []byte(`{}`)}}}), state: NoNetwork, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "a file where that directory would be", dir: netd(a10, aws, "aws-cni", ""), state: NoNetwork, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "a directory of plugins nobody may list", dir: netd(a10, aws).with(Entry{Name: "aws-cni", Type: Dir, SubMore: true, Detail: "permission denied"}), state: Unreadable, winner: "10-aws.conflist KindUnknown KindUnknown"},
		{name: "inlined plugins only", dir: netd(a10, `{"name":"aws-cni","loadOnlyInlinedPlugins":true,"plugins":[{"type":"aws-cni"}]}`, "aws-cni", ""), state: Ready, winner: "10-aws.conflist VPCCNI VPCCNI"},

		// What cannot be told.
		{name: "a first file we may not read", dir: netd(a10, aws).with(Entry{Name: c5, Problem: Denied, Detail: "permission denied"}), state: Unreadable, winner: "05-cilium.conflist KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "a first file too large", dir: netd(a10, aws).with(Entry{Name: c5, Problem: TooLarge, Size: 1 << 30}), state: Unreadable, winner: "05-cilium.conflist KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "a link out of the directory", dir: netd(a10, aws).with(Entry{Name: c5, Type: Link, Target: "/opt/cilium.conflist", Problem: Outside}), state: Unreadable, winner: "05-cilium.conflist KindUnknown KindUnknown", next: "10-aws.conflist Loads", ignored: 1},
		{name: "a read error", dir: netd().with(Entry{Name: c5, Problem: ReadFailed, Detail: "input/output error"}), state: Unreadable, winner: "05-cilium.conflist KindUnknown KindUnknown"},
		{name: "an unreadable second file waits", dir: netd(c5, cilium).with(Entry{Name: a10, Problem: NotRead}), state: Ready, winner: "05-cilium.conflist Cilium Cilium", next: "10-aws.conflist CannotTell", ignored: 1},

		// The directory itself.
		{name: "an empty directory", dir: netd(), state: Empty},
		{name: "no directory", dir: Directory{Path: "/etc/cni/net.d", Listing: NoDirectory}, state: Missing},
		{name: "a file in its place", dir: Directory{Path: "/etc/cni/net.d", Listing: NotDirectory}, state: Missing},
		{name: "a directory we may not list", dir: Directory{Path: "/etc/cni/net.d", Detail: "permission denied"}, state: Unreadable},
		{name: "a directory that keeps changing", dir: Directory{Path: "/etc/cni/net.d", Listing: Changing, Looks: 6}, state: Unstable},
		{name: "a directory beyond reason", dir: Directory{Path: "/etc/cni/net.d", Listing: TooManyNames}, state: Unreadable},
		{name: "a directory nobody read", dir: Directory{}, state: Unreadable},
	}
}

var kindNames = map[Kind]string{KindUnknown: "KindUnknown", Cilium: "Cilium", VPCCNI: "VPCCNI", ChainedCilium: "ChainedCilium", Multus: "Multus", OtherCNI: "OtherCNI"}

func TestJudge(t *testing.T) {
	for _, s := range scenarios(t) {
		t.Run(s.name, func(t *testing.T) {
			o := s.dir.Judge()
			var winner, next string
			if o.Winner != nil {
				winner = o.Winner.File + " " + kindNames[o.Winner.Kind] + " " + kindNames[o.Winner.PodNetwork]
			}
			if o.Next != nil {
				next = o.Next.File + " " + o.Next.Condition.String()
			}
			got := scenario{state: o.State, winner: winner, next: next, ignored: len(o.Ignored), left: len(o.Leftovers)}
			want := scenario{state: s.state, winner: s.winner, next: s.next, ignored: s.ignored, left: s.left}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("judged\n  %+v\nwant\n  %+v\n%s", got, want, o.Why)
			}
			checkOutcome(t, s.dir, o)
		})
	}
}

// checkOutcome holds for every outcome of every directory.
func checkOutcome(t *testing.T, d Directory, o Outcome) {
	t.Helper()
	for _, s := range []string{o.Why, o.Then} {
		if len(s) > maxWhy || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a sentence unfit for a status: %d bytes: %q", len(s), s)
		}
	}
	if o.Why == "" || (o.Winner == nil) != (o.Then == "") {
		t.Errorf("sentences are missing: why %q, then %q", o.Why, o.Then)
	}
	if (o.State == Ready) != (o.Winner != nil && o.Winner.Condition == Loads) {
		t.Errorf("state %v with winner %+v", o.State, o.Winner)
	}
	if (o.Next == nil) != (len(o.Ignored) == 0) {
		t.Errorf("next is %v with %d ignored", o.Next, len(o.Ignored))
	}
	if o.State == Ready && (o.Winner.Kind == KindUnknown || len(o.Winner.Plugins) == 0) {
		t.Errorf("ready through a file of unknown kind: %+v", o.Winner)
	}
	if again := d.Judge(); !reflect.DeepEqual(o, again) {
		t.Errorf("judged twice, two outcomes:\n%s", cmp.Diff(o.Why+o.Then, again.Why+again.Then))
	}
}

// TestWhatPeopleRead keeps every sentence in one file, to be read as a text.
func TestWhatPeopleRead(t *testing.T) {
	var b strings.Builder
	for _, s := range scenarios(t) {
		o := s.dir.Judge()
		fmt.Fprintf(&b, "# %s\n%s: %s\n", s.name, o.State, o.Why)
		if o.Then != "" {
			fmt.Fprintln(&b, o.Then)
		}
		for _, l := range o.Leftovers {
			fmt.Fprintf(&b, "- %s: %s (%s)\n", quote(l.Name), l.What, l.Kind)
		}
		fmt.Fprintln(&b)
	}
	golden.Match(t, "testdata/sentences.golden", b.String())
}

func TestMultusOptionsAreKept(t *testing.T) {
	d := netd("00-multus.conf", `{"name":"m","type":"multus","confDir":"/x","clusterNetwork":"/etc/cni/net.d/10-aws.conflist","defaultNetworks":["a","b"],"readinessindicatorfile":"/ready","delegates":[{"name":"d","plugins":[{"type":"aws-cni"},{"type":"cilium-cni"}]}]}`, "10-aws.conflist", sample(t, "10-aws.conflist"))
	w := d.Judge().Winner
	want := &MultusOptions{ClusterNetwork: "/etc/cni/net.d/10-aws.conflist", ConfDir: "/x", DefaultNetworks: []string{"a", "b"}, ReadinessIndicatorFile: "/ready",
		Delegates: []Delegate{{Network: "d", Plugins: []string{"aws-cni", "cilium-cni"}, Kind: ChainedCilium}}, File: "10-aws.conflist"}
	if diff := cmp.Diff(want, w.Multus); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if w.PodNetwork != VPCCNI {
		t.Errorf("pods get their address from %v, want the cluster network's kind: it wins over delegates", w.PodNetwork)
	}
}

func TestJudgeLeavesTheDirectoryAlone(t *testing.T) {
	d := netd("b.conf", "{}", "a.conf", `{"type":"x"}`)
	before := fmt.Sprintf("%#v", d)
	d.Judge()
	if after := fmt.Sprintf("%#v", d); after != before {
		t.Errorf("judging changed the directory:\n%s\n%s", before, after)
	}
}

func BenchmarkJudge(b *testing.B) {
	d := netd("05-cilium.conflist", sample(b, "05-cilium.conflist"), "10-aws.conflist", sample(b, "10-aws.conflist"), "calico-kubeconfig", "")
	b.ReportAllocs()
	for b.Loop() {
		if d.Judge().State != Ready {
			b.Fatal("a typical directory is not ready")
		}
	}
}
