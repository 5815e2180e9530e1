// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

// evictions counts the evictions that our coordinator has asked for, by the API server's own account.
func (s *scene) evictions(t *testing.T) int {
	t.Helper()
	count := 0
	s.audit(t, func(e *oracle.Event) {
		if e.What() == "pods/eviction" && e.By(oracle.Coordinator) {
			count++
		}
	})
	return count
}

func (s *scene) audit(t *testing.T, each func(*oracle.Event)) {
	t.Helper()
	s.must(t, oracle.ReadFile(s.env.Cluster.AuditLog(), each))
}

// wantLaws holds everything that happened in this cluster so far against the laws. A law that nothing was held against
// proves nothing, so each must have been put to use in a roll of that many nodes. What tests of faults did to the cluster before
// is in the books, and not held against anybody.
func (s *scene) wantLaws(t *testing.T, nodes int) {
	t.Helper()
	var judge oracle.Oracle
	onPurpose := 0
	s.audit(t, func(e *oracle.Event) {
		judge.See(e)
		if e.Received.Time.Before(s.harmed) {
			onPurpose = len(judge.Violations())
		}
	})
	for _, v := range judge.Violations()[onPurpose:] {
		t.Error(v)
	}
	seen := judge.Seen()
	t.Logf("the audit log shows %+v", seen)
	if seen.Grants < nodes || seen.Cordons < nodes || seen.Evictions < nodes || seen.LegacyStatus == 0 || seen.PodAddresses == 0 {
		t.Errorf("in a roll of %d nodes the audit log shows only %+v: is the audit policy as internal/oracle wants it?", nodes, seen)
	}
}

func getOptions() metav1.GetOptions { return metav1.GetOptions{} }
