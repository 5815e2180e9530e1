// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Limits of a person's command: an API server serves others too. A page is as large as one answer should be.
const (
	requestsPerSecond = 50
	requestBurst      = 100
	pageSize          = 500
)

// missingRight is a refusal by the API server's authorization.
type missingRight struct {
	ask    ask
	writes bool
	err    error
}

func (m *missingRight) Error() string {
	where, flag := "in the whole cluster", ""
	if m.ask.namespace != "" {
		where, flag = "in namespace "+m.ask.namespace, " -n "+m.ask.namespace
	}
	return fmt.Sprintf("you may not %s %s %s; whoever gives rights must add verb %s on resource %s (kubectl auth can-i %s %s%s): %v",
		m.ask.verb, m.ask.resource, where, m.ask.verb, m.ask.resource, m.ask.verb, m.ask.resource, flag, m.err)
}

func (m *missingRight) Unwrap() error { return m.err }

// ask names a request by what a role would have to allow: verb, resource with its group, namespace.
type ask struct{ verb, resource, namespace string }

// fail explains why a request did not work.
func (q ask) fail(err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot "+q.verb): // and not a quota or a policy, which say 403 too
		return &missingRight{ask: q, writes: q.verb != "get" && q.verb != "list" && q.verb != "watch", err: err}
	case meta.IsNoMatchError(err):
		return fmt.Errorf("asking to %s %s: the cluster does not know this kind; is the chart cni-cutover installed: %w", q.verb, q.resource, err)
	}
	return fmt.Errorf("asking to %s %s: %w", q.verb, q.resource, err)
}

// cluster is a client for the cluster that the flags name, and its configuration.
func (a *app) cluster() (client.WithWatch, *rest.Config, error) {
	config, err := a.flags.ToRESTConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("finding a cluster: %w", err)
	}
	config.QPS, config.Burst = requestsPerSecond, requestBurst
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, fmt.Errorf("making a client: %w", err)
		}
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	return c, config, nil
}

const cutovers = "cutovers.cni-cutover.dev"

// readCutover reads the one Cutover.
func readCutover(ctx context.Context, c client.Client) (*v1alpha1.Cutover, error) {
	cutover := &v1alpha1.Cutover{}
	err := c.Get(ctx, client.ObjectKey{Name: v1alpha1.CutoverName}, cutover)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading the Cutover: there is none named %s; docs/examples/cutover.yaml is one that approves nothing yet: %w", v1alpha1.CutoverName, err)
	}
	if err != nil {
		return nil, ask{"get", cutovers, ""}.fail(err)
	}
	return cutover, nil
}

// eachPage lists objects page by page.
func eachPage[L client.ObjectList](ctx context.Context, c client.Client, resource string, list L, see func(L), options ...client.ListOption) error {
	for {
		page := append([]client.ListOption{client.Limit(pageSize), client.Continue(list.GetContinue())}, options...)
		if err := c.List(ctx, list, page...); err != nil {
			return ask{"list", resource, ""}.fail(err)
		}
		see(list)
		if list.GetContinue() == "" {
			return nil
		}
	}
}
