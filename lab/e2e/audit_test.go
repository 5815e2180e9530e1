// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// auditEvent is as much of an event of the API server's audit log as is read here (audit.k8s.io/v1).
type auditEvent struct {
	Stage string `json:"stage"`
	Verb  string `json:"verb"`
	User  struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Resource    string    `json:"resource"`
		Subresource string    `json:"subresource"`
		Name        string    `json:"name"`
		UID         types.UID `json:"uid"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// evictions counts the evictions that our coordinator has asked for, by the API server's own account.
func (s *scene) evictions(t *testing.T) int {
	t.Helper()
	count := 0
	s.audit(t, func(e auditEvent) {
		if e.ObjectRef.Subresource == "eviction" && strings.Contains(e.User.Username, "cutover-coordinator") {
			count++
		}
	})
	return count
}

func (s *scene) audit(t *testing.T, each func(auditEvent)) {
	t.Helper()
	file, err := os.Open(s.env.Cluster.AuditLog())
	s.must(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditEvent
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Stage == "ResponseComplete" { // the last line may be half written
			each(e)
		}
	}
	s.must(t, lines.Err())
}

func getOptions() metav1.GetOptions { return metav1.GetOptions{} }
