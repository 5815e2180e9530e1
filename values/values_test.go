// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// versions that the testdata was rendered from by the real chart.
func versions(t *testing.T) []Version {
	t.Helper()
	var out []Version
	for _, text := range []string{"1.18.11", "1.19.0", "1.20.2"} {
		out = append(out, must[Version](t)(ParseVersion(text)))
	}
	return out
}

func reference(v Version, p Phase) For {
	return For{
		Version: v, Phase: p, Pools: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Mask: 24, Port: 8472,
		Host: "ABCD.gr7.eu-central-1.eks.amazonaws.com", HostPort: 443, FenceLabel: v1alpha1.FenceLabel,
	}
}

// plain is a cluster of which everything is known and nothing is odd.
func plain() Cluster {
	none := 0
	return Cluster{
		Overlay: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, NodeMaskSize: 24, TunnelPort: 8472, Policies: &none,
		VPC: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}, Services: []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16")},
		NodeAddresses: []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.2.10")},
	}
}

func TestVersionsAreRead(t *testing.T) {
	for text, want := range map[string]Version{"1.18.3": {1, 18, 3}, "v1.20.2": {1, 20, 2}, "1.19": {1, 19, 0}, "1.19.0-rc.1": {1, 19, 0}} {
		if got, err := ParseVersion(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "latest", "1.x", "1.18.3.4", "1.-18", "99999999.1"} {
		if got, err := ParseVersion(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
	if !(Version{1, 19, 0}).AtLeast(1, 19) || !(Version{2, 0, 0}).AtLeast(1, 19) || (Version{1, 18, 99}).AtLeast(1, 19) {
		t.Error("AtLeast compares wrongly")
	}
}

func TestReferencesAreWritten(t *testing.T) {
	for name, f := range map[string]For{
		"install-1.18.11.yaml":   reference(Version{1, 18, 11}, Install),
		"full-ebpf-1.20.2.yaml":  reference(Version{1, 20, 2}, FullEBPF),
		"install-shared.yaml":    func() For { f := reference(Version{1, 19, 0}, Install); f.Install = v1alpha1.InstallShared; return f }(),
		"install-no-host.yaml":   func() For { f := reference(Version{1, 19, 0}, Install); f.Host = ""; return f }(),
		"replacement-nodes.yaml": {},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "replacement-nodes.yaml" {
				golden.Match(t, filepath.Join("testdata", name), must[string](t)(reference(Version{1, 18, 11}, Install).ReplacementNodes("kube-system")))
				return
			}
			text := must[string](t)(f.YAML())
			golden.Match(t, filepath.Join("testdata", name), text)
			written := must[*Values](t)(FromYAML(name, []byte(text), f.Version))
			for _, l := range f.lines() {
				if got, want := strings.Join(written.list(l.path), " "), strings.Join(f.Values().list(l.path), " "); got != want {
					t.Errorf("%s is written as %q, want %q", l.path, got, want)
				}
			}
		})
	}
	for _, v := range []Version{{1, 17, 9}, {1, 21, 0}, {}} {
		if _, err := reference(v, Install).YAML(); err == nil {
			t.Errorf("values were written for %s", v)
		}
	}
	if _, err := reference(Version{1, 18, 11}, FullEBPF).ReplacementNodes("kube-system"); err == nil {
		t.Error("replacement nodes got values of their own in the last phase")
	}
}

// TestTheReferenceIsClean: nothing to say of our own advice, from a file, and back from what the real chart makes of it.
func TestTheReferenceIsClean(t *testing.T) {
	for _, v := range versions(t) {
		for _, p := range []Phase{Install, FullEBPF} {
			t.Run(string(p)+" "+v.String(), func(t *testing.T) {
				ref := reference(v, p)
				clean(t, Check(ref.Values(), p, plain()))
				config, ds := rendered(t, v, p)
				live := FromCluster(config, ds, Version{})
				if live.Version != v {
					t.Errorf("the version was read as %s", live.Version)
				}
				clean(t, Check(live, p, plain()))
				for _, o := range options() {
					if o.path == "cni.exclusive" && p == Install {
						continue // left out of the ConfigMap with customConf
					}
					if want, got := strings.Join(ref.Values().list(o.path), " "), strings.Join(live.list(o.path), " "); !ref.Values().given(o.path) {
						continue
					} else if got != want {
						t.Errorf("%s: the ConfigMap says %q by %s, the values say %q", o.path, got, o.key, want)
					}
				}
			})
		}
	}
}

func clean(t *testing.T, r Report) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Verdict != v1alpha1.VerdictPass && f.Verdict != v1alpha1.VerdictNotAsked {
			t.Errorf("%s: %s %s: %s", r.Origin, f.Verdict, f.Rule, f.Message)
		}
	}
}

// rendered is what the chart of a release makes of our reference (helm template, charts of the tags).
func rendered(t *testing.T, v Version, p Phase) (*corev1.ConfigMap, *appsv1.DaemonSet) {
	t.Helper()
	config, ds := &corev1.ConfigMap{}, &appsv1.DaemonSet{}
	for name, into := range map[string]any{"configmap": config, "daemonset": ds} {
		data, err := os.ReadFile(filepath.Join("testdata", "rendered", string(p)+"-"+v.String()+"-"+name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	return config, ds
}

func TestWhatTheClusterDoesNotShowIsUnknown(t *testing.T) {
	config, _ := rendered(t, Version{1, 18, 11}, Install)
	r := Check(FromCluster(config, nil, Version{1, 18, 11}), Install, plain())
	for _, f := range r.Findings {
		hidden := slices.Contains([]string{"AWSRules", "ServiceHost", "ServiceHostScheme"}, f.Rule)
		if hidden != (f.Verdict == v1alpha1.VerdictUnknown) {
			t.Errorf("%s %s: %s", f.Verdict, f.Rule, f.Message)
		}
	}
	if r.Verdict() != v1alpha1.VerdictUnknown {
		t.Errorf("the verdict is %s", r.Verdict())
	}
}

// TestAHelmReleaseIsRead packs what Helm packs: gzip of JSON in base64, in a Secret.
func TestAHelmReleaseIsRead(t *testing.T) {
	pack := func(release any) *corev1.Secret {
		plain := must[[]byte](t)(json.Marshal(release))
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		must[int](t)(w.Write(plain))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "sh.helm.release.v1.cilium.v4"},
			Data:       map[string][]byte{"release": []byte(base64.StdEncoding.EncodeToString(zipped.Bytes()))},
		}
	}
	release := func(chart, version string) map[string]any {
		return map[string]any{
			"name": "cilium", "version": 4, "config": map[string]any{"cni": map[string]any{"exclusive": false}},
			"chart": map[string]any{
				"metadata": map[string]any{"name": chart, "version": version},
				"values":   map[string]any{"cni": map[string]any{"exclusive": true, "customConf": true}, "operator": map[string]any{"setNodeTaints": nil}},
			},
		}
	}
	v, err := FromRelease(pack(release("cilium", "1.19.0")))
	if err != nil {
		t.Fatal(err)
	}
	if v.on("cni.exclusive") || !v.on("cni.customConf") || v.Version != (Version{1, 19, 0}) || v.Origin != "Helm release kube-system/cilium, revision 4" {
		t.Errorf("read as %+v", v)
	}
	for name, s := range map[string]*corev1.Secret{
		"another chart": pack(release("coredns", "1.19.0")), "no version": pack(release("cilium", "main")),
		"no release": {}, "no gzip": {Data: map[string][]byte{"release": []byte("aGVsbG8=")}},
		"no JSON": pack("text"),
	} {
		if v, err := FromRelease(s); err == nil {
			t.Errorf("%s was read as %+v", name, v)
		}
	}
}

func TestValuesFilesAreRead(t *testing.T) {
	v := must[*Values](t)(FromYAML("f", []byte("operator: {setNodeTaints: null}\ncni:\n  exclusive: 'false'\ndevices: [eth0, eth1]\negressMasqueradeInterfaces: eth+,ens+\n"), Version{1, 18, 0}))
	if v.on("cni.exclusive") || v.given("operator.setNodeTaints") || !v.given("cni") || v.given("operator") {
		t.Errorf("read as %+v", v)
	}
	if got := v.list("egressMasqueradeInterfaces"); !slices.Equal(got, []string{"eth+", "ens+"}) {
		t.Errorf("a list was read as %q", got)
	}
	extra := must[*Values](t)(FromYAML("f", []byte("bpf: {masquerade: false}\nextraConfig: {enable-bpf-masquerade: \"true\", unmanaged-pod-watcher-interval: 0}\n"), Version{1, 18, 0}))
	if !extra.on("bpf.masquerade") || extra.on("operator.unmanagedPodWatcher.restart") {
		t.Errorf("extraConfig does not win: %+v", extra.set)
	}
	if empty := must[*Values](t)(FromYAML("f", nil, Version{})); !empty.on("cni.exclusive") {
		t.Error("an empty file has not the chart's defaults")
	}
	for name, text := range map[string]string{"two documents": "a: 1\n---\nb: 2\n", "a list": "[1]", "not YAML": "a: [", "a word": "yes"} {
		if v, err := FromYAML("f", []byte(text), Version{}); err == nil {
			t.Errorf("%s was read as %+v", name, v)
		}
	}
}

func FuzzFromYAML(f *testing.F) {
	for _, seed := range []string{"", "cni: {exclusive: true}", "ipam: {operator: {clusterPoolIPv4PodCIDRList: [10.244.0.0/16, x]}}", "tunnelPort: -1\nMTU: {}", "k8sServiceHost: https://[::1]:443/x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := FromYAML("f", data, Version{1, 18, 11})
		if err != nil {
			return
		}
		for _, p := range []Phase{Install, FullEBPF} {
			r := Check(v, p, Cluster{Running: v})
			if len(r.Findings) != len(rules()) {
				t.Errorf("%d findings of %d rules", len(r.Findings), len(rules()))
			}
		}
	})
}
