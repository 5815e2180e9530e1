// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

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
