// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// FuzzParseCIDRs: what is read covers no address that the list does not name, and every CIDR of the list is read.
func FuzzParseCIDRs(f *testing.F) {
	for _, list := range []string{"", "10.244.0.0/16", " 10.244.0.0/16 ,10.0.0.1/8", "10.244.0.0", "10.244.0.0/16,", ",,", "::/0,fd00::/8", "0.0.0.0/0", "10.244.0.0/33", "10.244.0.0/16;10.0.0.0/8", "010.0.0.0/8", "::ffff:10.0.0.0/104"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		got := parseCIDRs(list)
		var want []netip.Prefix
		for _, item := range strings.Split(list, ",") {
			if p, err := netip.ParsePrefix(strings.TrimSpace(item)); err == nil {
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
		if again := parseCIDRs(strings.Join(words, ",")); len(again) != len(got) {
			t.Errorf("%q: %v, and read again %v", list, got, again)
		}
	})
}

// FuzzCordonRecord: an annotation is ours only if it names a slot, and what is ours says the same when it is written again.
func FuzzCordonRecord(f *testing.F) {
	for _, value := range []string{
		"", "null", "{}", "[]", `{"slot":""}`, `{"slot":"uid-1"}`, `{"slot":"uid-1","unschedulable":true,"excluded":true}`, `{"slot":1}`,
		`{"slot":"uid-1"}{"slot":"uid-2"}`, `{"slot":"uid-1","slot":"uid-2"}`, `{"SLOT":"uid-1"}`, strings.Repeat(`{"slot":`, 20000), `{"slot":"\u0000"}`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationCordon: value}}}
		r := cordonOf(n)
		if r == nil {
			if toNode(n, v1alpha1.FenceLabel, nil).CordonedBy != "" {
				t.Errorf("%q is nobody's, and somebody's", value)
			}
			return
		}
		if r.Slot == "" || !json.Valid([]byte(value)) {
			t.Errorf("%q is taken for %+v", value, r)
		}
		written, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		n.Annotations[v1alpha1.AnnotationCordon] = string(written)
		if again := cordonOf(n); again == nil || *again != *r {
			t.Errorf("%q is %+v, written as %s, which is %+v", value, r, written, again)
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
		if got, want := stripsRules(hook), chain.MatchString(a+" "+b+" "+c); got != want {
			t.Errorf("%q %q %q: strips rules %t, want %t", a, b, c, got, want)
		}
	})
}
