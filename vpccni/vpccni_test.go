// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package vpccni

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var samePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// TestLostPathsAreTheMeasuredOnes has a row for each variant that was measured; the cells are those of its table, in groups.
func TestLostPathsAreTheMeasuredOnes(t *testing.T) {
	overlay := netip.MustParsePrefix("10.244.0.0/16")
	in := []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), overlay}
	wider, part := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/20")}
	const (
		r1 = "pods on secondary ENIs -> Services with a backend on the overlay"
		r4 = "pods on secondary ENIs -> pods on the overlay, and Services with such a backend"
		r2 = "pods on the overlay -> pods on secondary ENIs of the same node, and Services with such a backend"
		r3 = "processes of old nodes themselves -> pods on the overlay of other nodes"
		r5 = "pods of the VPC CNI -> pods on the overlay of other nodes, and Services with such a backend"
		r6 = "load balancers and hosts outside -> NodePorts of an old node with one of its own pods behind them"
		r7 = "pods on secondary ENIs -> the Internet"
	)
	replaced, bpf := Mode{KubeProxyReplacement: true}, Mode{KubeProxyReplacement: true, BPFMasquerade: true}
	for name, c := range map[string]struct {
		settings Settings
		mode     Mode
		want     []string
	}{
		"default":                            {Settings{}, Mode{}, []string{r1, r2, r3}},
		"both lists":                         {Settings{ExternalServiceCIDRs: in, ExcludeSNATCIDRs: in}, Mode{}, nil},
		"both lists, wider":                  {Settings{ExternalServiceCIDRs: wider, ExcludeSNATCIDRs: wider}, Mode{}, nil},
		"external SNAT":                      {Settings{ExternalSNAT: true}, Mode{}, []string{r4, r2}},
		"external SNAT and services":         {Settings{ExternalSNAT: true, ExternalServiceCIDRs: in}, Mode{}, nil},
		"services alone":                     {Settings{ExternalServiceCIDRs: in}, Mode{}, []string{r3}},
		"exclusion alone":                    {Settings{ExcludeSNATCIDRs: in}, Mode{}, []string{r4, r2}},
		"default, rules removed":             {Settings{}, Mode{StripsRules: true}, []string{r1, r2, r7}},
		"both lists, rules removed":          {Settings{ExternalServiceCIDRs: in, ExcludeSNATCIDRs: in}, Mode{StripsRules: true}, []string{r7}},
		"all in BPF, default":                {Settings{}, bpf, []string{r2, r3 + ", and Services with such a backend", r5, r6}},
		"all in BPF, both lists":             {Settings{ExternalServiceCIDRs: in, ExcludeSNATCIDRs: in}, bpf, []string{r5, r6}},
		"replacement, default":               {Settings{}, replaced, []string{r2, r3 + ", and Services with such a backend", r6}},
		"replacement, both lists":            {Settings{ExternalServiceCIDRs: in, ExcludeSNATCIDRs: in}, replaced, []string{r6}},
		"a part is excluded, and the rest":   {Settings{ExcludeSNATCIDRs: part}, Mode{}, []string{r4, r2, r3}},
		"a part is served":                   {Settings{ExternalServiceCIDRs: part, ExcludeSNATCIDRs: in}, Mode{}, []string{r4, r2}},
		"another network":                    {Settings{ExternalServiceCIDRs: in[:1], ExcludeSNATCIDRs: in[:1]}, Mode{}, []string{r1, r2, r3}},
		"custom networking makes it general": {Settings{ExternalSNAT: true, CustomNetworking: true}, Mode{}, []string{strings.Replace(r4, "pods on secondary ENIs", "pods of the VPC CNI (custom networking puts all of them on secondary ENIs)", 1), strings.Replace(r2, "pods on secondary ENIs", "pods of the VPC CNI (custom networking puts all of them on secondary ENIs)", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range c.settings.Lost(overlay, c.mode) {
				got = append(got, p.From+" -> "+p.To)
				if p.Why == "" {
					t.Errorf("%s: no reason", p.To)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTheDaemonSetsThatAreInstalledAreRead: one as the project publishes it, one as EKS' add-on has it.
func TestTheDaemonSetsThatAreInstalledAreRead(t *testing.T) {
	for name, want := range map[string]Options{
		"published": {},
		"addon": {
			Settings: Settings{ExternalServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, CustomNetworking: true}, PrefixDelegation: true,
			PodENI: true, Policies: true, StrictPolicies: true, Managed: true, Cluster: "shop",
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			ds := &appsv1.DaemonSet{}
			if err := json.Unmarshal(data, ds); err != nil {
				t.Fatal(err)
			}
			got := Read(ds)
			if diff := cmp.Diff(want, got, samePrefix); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			data, err = json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var kept Options
			if err := json.Unmarshal(data, &kept); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, kept, samePrefix); diff != "" {
				t.Errorf("what is kept is another (-read +kept):\n%s", diff)
			}
		})
	}
}

func TestOptionsAreRead(t *testing.T) {
	overlay, other := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("192.168.0.0/16")
	env := func(pairs ...string) []corev1.EnvVar {
		var out []corev1.EnvVar
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, corev1.EnvVar{Name: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	node := func(env ...corev1.EnvVar) []corev1.Container {
		return []corev1.Container{{Name: "another", Args: []string{"--enable-network-policy=true"}}, {Name: "aws-node", Env: env}}
	}
	from := func(s corev1.EnvVarSource) corev1.EnvVar {
		return corev1.EnvVar{Name: EnvExternalServiceCIDRs, ValueFrom: &s}
	}
	for name, c := range map[string]struct {
		containers []corev1.Container
		want       Options
	}{
		"nothing": {node(), Options{}},
		"lists with blanks, junk and IPv6": {node(env(EnvExternalServiceCIDRs, "192.168.0.0/16, 10.244.7.7/16", EnvExcludeSNATCIDRs, "junk,10.244.0.0/16,,fd00::/8")...),
			Options{Settings: Settings{ExternalServiceCIDRs: []netip.Prefix{other, overlay}, ExcludeSNATCIDRs: []netip.Prefix{overlay}}}},
		"switches as Go reads them": {node(env(EnvExternalSNAT, "True", envIPv6, "1", envMultiNIC, "t", envIPv6Egress, "yes")...),
			Options{Settings: Settings{ExternalSNAT: true}, IPv6: true, MultiNIC: true}},
		"pods' ENIs":                  {node(env(envPodENI, "true")...), Options{PodENI: true, StrictPodENI: true}},
		"pods' ENIs, standard":        {node(env(envPodENI, "true", envEnforcingMode, "standard")...), Options{PodENI: true}},
		"a value from elsewhere":      {node(from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{Key: "k"}})), Options{Elsewhere: []string{EnvExternalServiceCIDRs}}},
		"a value of the pod itself":   {node(from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}})), Options{}},
		"anything from elsewhere":     {[]corev1.Container{{Name: "aws-node", EnvFrom: []corev1.EnvFromSource{{}}}}, Options{Elsewhere: []string{"*"}}},
		"another container's":         {[]corev1.Container{{Name: "another", Env: env(EnvExternalSNAT, "true")}}, Options{}},
		"the agent's flag without =":  {[]corev1.Container{{Name: "aws-eks-nodeagent", Args: []string{"--enable-network-policy"}}}, Options{Policies: true}},
		"the agent's flag, false":     {[]corev1.Container{{Name: "aws-eks-nodeagent", Args: []string{"--enable-network-policy=false"}}}, Options{}},
		"a flag that only looks like": {[]corev1.Container{{Name: "aws-eks-nodeagent", Args: []string{"--enable-network-policy-logs=true"}}}, Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			ds := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: c.containers}}}}
			got := Read(ds)
			if diff := cmp.Diff(c.want, got, samePrefix); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAddOnIsKnownByItsOwner(t *testing.T) {
	ds := &appsv1.DaemonSet{}
	for manager, want := range map[string]bool{"eks": true, "kubectl-client-side-apply": false, "helm": false, "eksctl": false} {
		ds.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kube-controller-manager"}, {Manager: manager}}
		if got := Read(ds).Managed; got != want {
			t.Errorf("%s: managed %t, want %t", manager, got, want)
		}
	}
}

// FuzzNetworks: what is read covers no address that the list does not name, and every IPv4 network of the list is read.
func FuzzNetworks(f *testing.F) {
	for _, list := range []string{"", "10.244.0.0/16", " 10.244.0.0/16 ,10.0.0.1/8", "10.244.0.0", "10.244.0.0/16,", ",,", "::/0,fd00::/8", "0.0.0.0/0", "10.244.0.0/33", "10.244.0.0/16;10.0.0.0/8", "010.0.0.0/8", "::ffff:10.0.0.0/104"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		got := Networks(list)
		var want []netip.Prefix
		for _, item := range strings.Split(list, ",") {
			if p, err := netip.ParsePrefix(strings.TrimSpace(item)); err == nil && p.Addr().Is4() {
				want = append(want, p)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %v, want %v", list, got, want)
		}
		for i, p := range got {
			if !p.IsValid() || p != p.Masked() || p.Bits() != want[i].Bits() || !p.Contains(want[i].Addr()) {
				t.Errorf("%q: %s of %s", list, p, want[i])
			}
		}
		// What was read can be written and read again.
		var words []string
		for _, p := range got {
			words = append(words, p.String())
		}
		if again := Networks(strings.Join(words, ",")); len(again) != len(got) {
			t.Errorf("%q: %v, and read again %v", list, got, again)
		}
	})
}

// FuzzStripsRules: the hook is found by the chains that it names, wherever they stand in it.
func FuzzStripsRules(f *testing.F) {
	f.Add("bash", "-c", "iptables-save | grep -E -v 'AWS-SNAT-CHAIN|AWS-CONNMARK-CHAIN'")
	f.Add("true", "", "")
	chain := regexp.MustCompile("AWS-(SNAT|CONNMARK)-CHAIN")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		hook := corev1.Container{Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{a, b, c}}}}}
		if got, want := StripsRules(&hook), chain.MatchString(a+" "+b+" "+c); got != want {
			t.Errorf("%q %q %q: strips rules %t, want %t", a, b, c, got, want)
		}
	})
}
