// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/lab/stage"
)

// This file sorts behind those whose tests make the requests that it judges.

// rarelyUsed are rights that a roll may end without, and why the programs have them all the same.
var rarelyUsed = map[string]string{
	"cutover-agent: get nodecutovers.cni-cutover.dev":                                             "an answer that met the coordinator's next question reads it again",
	"cutover-agent: list nodecutovers.cni-cutover.dev":                                            "an API server that does not stream lists is asked for them",
	"cutover-agent: list services":                                                                "a roll has no node whose Services Cilium translates at sockets",
	"cutover-agent: list endpointslices.discovery.k8s.io":                                         "a roll has no node whose Services Cilium translates at sockets",
	"cutover-coordinator-look: list cutovers.cni-cutover.dev":                                     "an API server that does not stream lists is asked for them",
	"kube-system/cutover-coordinator-look: list daemonsets.apps":                                  "an API server that does not stream lists is asked for them",
	"kube-system/cutover-coordinator-act: delete pods":                                            "a pod of Cilium's that is older than the CiliumNodeConfig, on a node without the fence label",
	"kube-system/cutover-coordinator-act: update ciliumnodeconfigs.cilium.io cni-cutover-overlay": "a CiliumNodeConfig that somebody changed is mended",
	"cni-cutover/cutover-coordinator-lead: patch events":                                          "an Event that is told again is counted up",
	"default/cutover-coordinator-tell: patch events.events.k8s.io":                                "an Event that is told again is counted up",
}

// right is a verb on a kind of object, in one namespace or in all, on one object or on any.
type right struct {
	role, verb, resource, namespace, name string
}

func (r right) String() string {
	s := r.role + ": " + r.verb + " " + r.resource
	if r.name != "" {
		s += " " + r.name
	}
	return s
}

// covers says whether a request needs nothing but this right.
func (r right) covers(q request) bool {
	return r.verb == q.Verb && r.resource == q.resource() && (r.namespace == "" || r.namespace == q.ObjectRef.Namespace) && (r.name == "" || r.name == q.ObjectRef.Name)
}

// request is as much of an audit event (audit.k8s.io/v1) as a right is about.
type request struct {
	Stage string `json:"stage"`
	Verb  string `json:"verb"`
	User  struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		APIGroup, Resource, Subresource, Namespace, Name string
	} `json:"objectRef"`
	ResponseStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"responseStatus"`
}

func (q request) resource() string {
	return resourceOf(q.ObjectRef.APIGroup, q.ObjectRef.Resource, q.ObjectRef.Subresource)
}

func resourceOf(group, resource, subresource string) string {
	if group != "" {
		resource += "." + group
	}
	if subresource != "" {
		resource += "/" + subresource
	}
	return resource
}

// requests reads what one account has asked for, one of each kind, from audit logs.
func requests(t *testing.T, account string, logs ...string) []request {
	t.Helper()
	var all []request
	seen := map[string]bool{}
	for _, path := range logs {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 8<<20)
		for lines.Scan() {
			var q request
			// The last line may be half written; a request without an object is discovery.
			if json.Unmarshal(lines.Bytes(), &q) != nil || q.ObjectRef == nil || q.User.Username != "system:serviceaccount:"+stage.Namespace+":"+account {
				continue
			}
			key := fmt.Sprint(q.Verb, *q.ObjectRef, q.ResponseStatus.Code)
			if !seen[key] {
				seen[key] = true
				all = append(all, q)
			}
		}
		err = lines.Err()
		_ = file.Close() // only read
		if err != nil {
			t.Fatalf("reading %s: %v", path, err)
		}
	}
	return all
}

// rights are those that the chart gave to an account in the cluster.
func (s *scene) rights(t *testing.T, account string) []right {
	t.Helper()
	ours := client.MatchingLabels{"app.kubernetes.io/name": account}
	var wide rbacv1.ClusterRoleList
	var narrow rbacv1.RoleList
	s.must(t, s.env.Client.List(t.Context(), &wide, ours))
	s.must(t, s.env.Client.List(t.Context(), &narrow, ours))
	var all []right
	for _, r := range wide.Items {
		all = append(all, spread(r.Name, "", r.Rules)...)
	}
	for _, r := range narrow.Items {
		all = append(all, spread(r.Namespace+"/"+r.Name, r.Namespace, r.Rules)...)
	}
	return all
}

// spread takes rules apart.
func spread(role, namespace string, rules []rbacv1.PolicyRule) []right {
	var all []right
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				main, sub, _ := strings.Cut(resource, "/")
				for _, verb := range rule.Verbs {
					for _, name := range names {
						all = append(all, right{role, verb, resourceOf(group, main, sub), namespace, name})
					}
				}
			}
		}
	}
	return all
}

// TestRightsAreThoseThatAreUsed holds the chart's roles to what the programs asked for during the tests before this one, by the
// API server's own account: nothing they asked for is missing, and nothing they have was not asked for. LAB_AUDIT_LOGS
// names the audit logs of other rolls that are to count too.
func TestRightsAreThoseThatAreUsed(t *testing.T) {
	s := standing(t)
	logs := append(filepath.SplitList(os.Getenv("LAB_AUDIT_LOGS")), s.env.Cluster.AuditLog())
	// A watch is in the log when it has ended.
	s.must(t, s.env.Client.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(stage.Namespace)))
	given := map[string]bool{}
	for _, account := range []string{"cutover-agent", "cutover-coordinator"} {
		rights := s.rights(t, account)
		for _, r := range rights {
			given[r.String()] = true
		}
		t.Run(account, func(t *testing.T) {
			s.eventually(t, time.Minute, func() string { return strings.Join(compare(rights, requests(t, account, logs...)), "\n") })
		})
	}
	for r := range rarelyUsed {
		if !given[r] {
			t.Errorf("%s: there is a reason for it, and nobody has it", r)
		}
	}
}

// compare says what was asked for without a right and which right nobody used.
func compare(rights []right, asked []request) (wrong []string) {
	if len(rights) == 0 || len(asked) == 0 {
		return []string{fmt.Sprintf("%d rights, %d requests: nothing to compare", len(rights), len(asked))}
	}
	used := map[string]bool{}
	for _, q := range asked {
		covered := false
		for _, r := range rights {
			if r.covers(q) {
				covered, used[r.String()] = true, true
			}
		}
		if !covered || q.ResponseStatus.Code == http.StatusForbidden {
			wrong = append(wrong, fmt.Sprintf("%s %s %s/%s was asked for and answered %d %s; a role gives it: %t",
				q.Verb, q.resource(), q.ObjectRef.Namespace, q.ObjectRef.Name, q.ResponseStatus.Code, q.ResponseStatus.Message, covered))
		}
	}
	for _, r := range rights {
		if !used[r.String()] && rarelyUsed[r.String()] == "" {
			wrong = append(wrong, fmt.Sprintf("%s: nobody used it: take it from the role, or say why it is needed", r))
		}
	}
	return wrong
}
