// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// refusal is why the API server did not do what it was asked for, in words for people.
type refusal struct {
	Reason  v1alpha1.Reason
	Message string
	// slot that waits for it; empty if none does.
	slot types.UID
	// what was tried: the name of the Action.
	what string
	// idle is true if the cutover goes on without it.
	idle bool
}

// missingRight finds in a message of the API server's authorizer (k8s.io/apiserver, endpoints/handlers/responsewriters)
// the verb and the resource, with its subresource. The message also says for whom, in which API group and where.
func missingRight(message string) []string {
	return regexp.MustCompile(`User "[^"]*" cannot (\w+) resource "([^"]*)"`).FindStringSubmatch(message)
}

// onTheWay are what admission says when it refuses: webhooks and policies (k8s.io/apiserver, admission/plugin) and quotas.
func onTheWay() []string {
	return []string{"admission webhook \"", "calling webhook", "call webhook", "AdmissionPolicy '", "exceeded quota:", "status unknown for quota:"}
}

// refuse words an error for people: what was tried, what the API server said, what to do next. otherwise is the Reason of
// an error that is none of those that are known.
func refuse(tried string, err error, otherwise v1alpha1.Reason) *refusal {
	text := said(err)
	r := &refusal{Reason: otherwise, Message: fmt.Sprintf("%s: %s", tried, text)}
	next := ""
	switch {
	case lacksRight(err):
		r.Reason, next = v1alpha1.PermissionMissing, whoGives(text)
	case apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		r.Reason, next = v1alpha1.EvictionBlocked, "let more of its pods become healthy, or ask its owner to widen it"
	case strings.Contains(text, "more than one PodDisruptionBudget"):
		r.Reason, next = v1alpha1.BudgetsOverlap, "leave only one of them to select this pod (kubectl get pdb)"
	case containsAny(text, onTheWay()):
		r.Reason, next = v1alpha1.AdmissionRefused, "mend it, or exempt the ServiceAccount cutover-coordinator there"
	}
	if next != "" {
		// What to do next must not be cut off by what a webhook has to say.
		room := v1alpha1.MaxMessageBytes - len(next) - len("; ")
		if len(r.Message) > room {
			r.Message = strings.ToValidUTF8(r.Message[:room-len("...")], "") + "..."
		}
		r.Message += "; " + next
	}
	r.Message = plan.Clip(r.Message)
	return r
}

// lacksRight says whether an error, or one that it quotes, is the authorizer's.
func lacksRight(err error) bool { return missingRight(err.Error()) != nil }

// whoGives says which of the chart's roles holds the right that a message misses.
func whoGives(text string) string {
	role, where := "cutover-coordinator-act", ""
	m := missingRight(text)
	switch m[1] {
	case "get", "list", "watch":
		role = "cutover-coordinator-look"
	}
	switch m[2] {
	case "daemonsets", "ciliumnodeconfigs":
		where = " for the chart's values cni.namespace and cni.legacyDaemonSet"
	}
	return "role " + role + " of the chart gives this right" + where + ": helm upgrade puts it back"
}

// said is what the API server said, with the causes that it names: of a budget, which one and how many pods it needs.
func said(err error) string {
	text := err.Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, c := range status.Status().Details.Causes {
			if c.Message != "" && !strings.Contains(text, c.Message) {
				text += " " + c.Message
			}
		}
	}
	// The source port of a connection that failed is another one each time, and no news.
	return regexp.MustCompile(`:\d+->`).ReplaceAllString(strings.Join(strings.Fields(text), " "), "->")
}

func containsAny(s string, parts []string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}
