// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package awsaccount plays an AWS account for tests: a real HTTP server that answers aws-sdk-go-v2 as EC2, EKS, Auto Scaling and
// Elastic Load Balancing do, in their own protocols, page by page. Its fields are what stands in the account; faults come at an
// action that the test chooses.
//
//	a := &awsaccount.Account{Clusters: ...}
//	a.Meddle(func(r awsaccount.Request) awsaccount.Fate { ... })
//	config := a.Start(t)
//
// What it answers is held to moto by a contract test in preflight/gather/aws, where moto_server is installed. EKS' add-ons exist
// in no emulator and are written after EKS' API reference.
package awsaccount

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Region and Number of the account, and what its requests have to be signed by.
const (
	Region    = "eu-central-1"
	Number    = "123456789012"
	accessKey = "AKIDEXAMPLE"
)

// Account is an AWS account. Its zero value is empty.
type Account struct {
	Clusters      []Cluster
	AddOns        []AddOn
	NodeGroups    []NodeGroup
	Instances     []Instance
	InstanceTypes []InstanceType
	Templates     []Template
	Rules         []Rule
	VPCs          []VPC
	RouteTables   []RouteTable
	ScalingGroups []ScalingGroup
	TargetGroups  []TargetGroup
	LoadBalancers []LoadBalancer
	// PageSize is how many things an answer holds; 0: as many as there are.
	PageSize int

	mu    sync.Mutex
	fate  func(Request) Fate
	asked []Request
}

// Request is what was asked. Count is how often the action was asked before.
type Request struct {
	Action string // as IAM names it
	Of     string // the name in the question, if it has one
	Count  int
}

// Fate is what becomes of a request. The zero Fate is an answer.
type Fate struct {
	// Code is an error's, in the service's own words, Status its HTTP status; 0: 403.
	Code   string
	Status int
	// After is how long the answer takes.
	After time.Duration
	// Cut: the connection ends in the middle of the answer.
	Cut bool
}

// Denied is what IAM makes of an action of a service.
func Denied(action string) Fate {
	switch service, _, _ := strings.Cut(action, ":"); service {
	case "ec2":
		return Fate{Code: "UnauthorizedOperation"}
	case "eks":
		return Fate{Code: "AccessDeniedException"}
	}
	return Fate{Code: "AccessDenied"}
}

// Throttled is a service's answer to too many requests.
func Throttled(action string) Fate {
	switch service, _, _ := strings.Cut(action, ":"); service {
	case "ec2":
		return Fate{Code: "RequestLimitExceeded", Status: http.StatusServiceUnavailable}
	case "eks":
		return Fate{Code: "ThrottlingException", Status: http.StatusTooManyRequests}
	}
	return Fate{Code: "Throttling", Status: http.StatusBadRequest}
}

// Meddle decides the fate of requests from now on; nil: all are answered.
func (a *Account) Meddle(fate func(Request) Fate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fate = fate
}

// Asked is what was asked so far.
func (a *Account) Asked() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Request(nil), a.asked...)
}

// Start serves the account until the test ends, and gives a configuration for the SDK that asks it.
func (a *Account) Start(t testing.TB) sdk.Config {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return Config(server.URL)
}

// Config is a configuration for the SDK that asks whoever answers at a URL. Its retryer is the SDK's own, but for how long it
// waits.
func Config(url string) sdk.Config {
	retryer := func() sdk.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	}
	return sdk.Config{Region: Region, BaseEndpoint: &url, Retryer: retryer, Credentials: credentials.NewStaticCredentialsProvider(accessKey, "secret", "")}
}

// signed finds key, region and service in a request's signature.
var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=(\w+)/\d{8}/([\w-]+)/([\w-]+)/aws4_request, `)

// ServeHTTP answers by the service that a request is signed for.
func (a *Account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	by := signed.FindStringSubmatch(r.Header.Get("Authorization"))
	if by == nil || by[2] != Region {
		http.Error(w, "not signed for "+Region, http.StatusForbidden)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch by[3] {
	case "eks":
		a.serveEKS(w, r)
	case "ec2", "autoscaling", "elasticloadbalancing":
		a.serveQuery(w, r, by[3])
	default:
		http.Error(w, "no such service: "+by[3], http.StatusNotFound)
	}
}

// meet notes a request and decides its fate. The lock is let go while an answer takes its time.
func (a *Account) meet(r *http.Request, action, of string) Fate {
	asked := Request{Action: action, Of: of}
	for _, o := range a.asked {
		if o.Action == action {
			asked.Count++
		}
	}
	a.asked = append(a.asked, asked)
	if a.fate == nil {
		return Fate{}
	}
	fate := a.fate(asked)
	if fate.After > 0 {
		a.mu.Unlock()
		timer := time.NewTimer(fate.After)
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		timer.Stop()
		a.mu.Lock()
	}
	return fate
}

// cut ends the connection in the middle of an answer.
func cut(w http.ResponseWriter, whole []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(whole[:len(whole)/2]) // the handler ends before the rest, so the server closes the connection
}

// page is a part of a list, and the token of the next one; empty: it was the last.
func page[T any](a *Account, all []T, token string) ([]T, string) {
	from, _ := strconv.Atoi(token)
	from = min(max(from, 0), len(all))
	to := len(all)
	if a.PageSize > 0 {
		to = min(from+a.PageSize, to)
	}
	if to == len(all) {
		return all[from:to], ""
	}
	return all[from:to], strconv.Itoa(to)
}
