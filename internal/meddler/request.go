// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package meddler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Request is what a program asks of the API server.
type Request struct {
	// Write counts the writes from 1; 0 for what is not counted: reads, Leases, Events, and reviews, which write nothing.
	Write int
	// Verb as RBAC knows it: get, list, watch, create, update, patch, delete.
	Verb string
	// Resource and Subresource, as nodes and status; both are empty for what is no resource.
	Resource, Subresource string
	// Namespace and Name; Name is empty for lists and creations.
	Namespace, Name string
	// Body as it was sent.
	Body []byte
}

// String tells a request in a line.
func (r Request) String() string {
	what := r.Resource
	if r.Name != "" {
		what += "/" + r.Name
	}
	if r.Subresource != "" {
		what += "/" + r.Subresource
	}
	if r.Write > 0 {
		return fmt.Sprintf("%d: %s %s", r.Write, r.Verb, what)
	}
	return r.Verb + " " + what
}

func (r Request) counts() bool {
	reads := []string{"get", "list", "watch"}
	apart := []string{"leases", "events", "selfsubjectaccessreviews", "subjectaccessreviews", "tokenreviews"}
	return r.Resource != "" && !slices.Contains(reads, r.Verb) && !slices.Contains(apart, r.Resource)
}

// parse reads /api/v1/... and /apis/group/version/..., then [namespaces/ns/]resource[/name[/subresource]], as
// k8s.io/apiserver/pkg/endpoints/request does.
func parse(r *http.Request) Request {
	var out Request
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return Request{Verb: strings.ToLower(r.Method)}
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		out.Namespace, parts = parts[1], parts[2:]
	}
	parts = append(parts, "", "")
	out.Resource, out.Name, out.Subresource = parts[0], parts[1], parts[2]
	out.Verb = verb(r, out.Name)
	return out
}

func verb(r *http.Request, name string) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch, http.MethodDelete:
		return strings.ToLower(r.Method)
	}
	switch watch := r.URL.Query().Get("watch"); {
	case watch == "true" || watch == "1":
		return "watch"
	case name == "":
		return "list"
	}
	return "get"
}

// refuse answers as the API server, or what stands before it, does when it says no.
func refuse(w http.ResponseWriter, status int, retryAfter time.Duration) {
	reason := map[int]metav1.StatusReason{
		http.StatusConflict: metav1.StatusReasonConflict, http.StatusTooManyRequests: metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
	}[status]
	seconds := int32((retryAfter + time.Second - 1) / time.Second)
	body, err := json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(status), Reason: reason,
		Message: "the meddler says no", Details: &metav1.StatusDetails{RetryAfterSeconds: seconds},
	})
	if err != nil {
		panic(err) // a literal of plain fields
	}
	w.Header().Set("Content-Type", "application/json")
	if seconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // to a program that may be dead by now
}
