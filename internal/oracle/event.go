// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Event is what is read here of an event of the audit log (audit.k8s.io/v1, stage ResponseComplete).
type Event struct {
	Stage string `json:"stage"`
	Verb  string `json:"verb"`
	User  struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		APIGroup    string    `json:"apiGroup,omitempty"`
		Resource    string    `json:"resource"`
		Subresource string    `json:"subresource,omitempty"`
		Namespace   string    `json:"namespace,omitempty"`
		Name        string    `json:"name"`
		UID         types.UID `json:"uid,omitempty"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message,omitempty"`
	} `json:"responseStatus"`
	// Received is when the API server got the request, Answered when it had answered.
	Received       metav1.MicroTime `json:"requestReceivedTimestamp"`
	Answered       metav1.MicroTime `json:"stageTimestamp"`
	RequestObject  json.RawMessage  `json:"requestObject,omitempty"`
	ResponseObject json.RawMessage  `json:"responseObject,omitempty"`
}

// What is the object in one word: resource, or resource/subresource.
func (e *Event) What() string {
	if e.ObjectRef.Subresource == "" {
		return e.ObjectRef.Resource
	}
	return e.ObjectRef.Resource + "/" + e.ObjectRef.Subresource
}

// By says whether the request came with the token of a ServiceAccount of this name, in whatever namespace.
func (e *Event) By(account string) bool {
	return strings.HasPrefix(e.User.Username, "system:serviceaccount:") && strings.HasSuffix(e.User.Username, ":"+account)
}

// Write says whether the request asked for a change.
func (e *Event) Write() bool {
	switch e.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// Done says whether the API server did what was asked for.
func (e *Event) Done() bool { return e.ResponseStatus.Code >= 200 && e.ResponseStatus.Code < 300 }

// Doubtful says whether the API server may have done what was asked for, and could not say so: whoever asked had hung up, as a
// coordinator that is killed with a request on its way (504, "context canceled").
func (e *Event) Doubtful() bool { return e.ResponseStatus.Code == http.StatusGatewayTimeout }

// Read gives every complete event of an audit log, in the order in which they were answered. The last line may be half
// written: the API server is still at work.
func Read(log io.Reader, each func(*Event)) error {
	lines := bufio.NewReaderSize(log, 1<<20)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the audit log, line %d: %w", number, err)
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("reading the audit log, line %d: %w", number, err)
		}
		if e.Stage == "ResponseComplete" {
			each(&e)
		}
	}
}

// ReadFile is Read of a file.
func ReadFile(path string, each func(*Event)) error { return ReadFileFrom(path, 0, each) }

// ReadFileFrom is Read of what a file holds from an offset on, in bytes: a log that serves many tests is judged test by test.
func ReadFileFrom(path string, offset int64, each func(*Event)) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	return Read(file, each)
}
