// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
)

const (
	servicesPath = "/api/v1/services"
	slicesPath   = "/apis/discovery.k8s.io/v1/endpointslices"
	// maxEndpoints bounds what an answer holds of Services' endpoints, at about 90 bytes each
	// where a Service has twenty, and some 450 where it has one. Cilium's map of backends has room for
	// 65,536 unless it is told otherwise (bpf-lb-map-max).
	maxEndpoints = 100_000
	// compareAgain is how often Services that differ are compared once more, and followPause how long Cilium is given before that.
	compareAgain = 2
	followPause  = 2 * time.Second
)

var errTooMany = errors.New("too many")

// AskServices fills in what Services should lead to, where Cilium translates them. Lists out of the API server's watch cache may be
// older than the maps, and the maps older than them. So if they differ, both are read again, the maps first, and what counts as ready
// is what was so before and after that.
func AskServices(ctx context.Context, f *facts.Facts, look func(facts.Programs) facts.Services, ask func(ctx context.Context, cached bool) facts.Wanted) {
	if f.Services.Sight != facts.Seen {
		return
	}
	f.Wanted = ask(ctx, true)
	for range compareAgain {
		if f.Wanted.Sight != facts.Seen || !check.ServicesDiffer(f) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(followPause):
		}
		if f.Services = look(f.Programs); f.Services.Sight != facts.Seen {
			return
		}
		f.Wanted = f.Wanted.Lasting(ask(ctx, false))
	}
}

// WantedServices lists all Services and EndpointSlices that Cilium serves from; cached, out of the API server's watch cache.
func (a *API) WantedServices(ctx context.Context, cached bool) facts.Wanted {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	params := func(selector string) map[string]string {
		out := map[string]string{"labelSelector": selector}
		if cached {
			out["resourceVersion"] = "0"
		} else {
			out["limit"] = "500"
		}
		return out
	}
	// Cilium leaves these out too (Cilium pkg/k8s/utils: GetServiceAndEndpointListOptionsModifier).
	const served = "!" + corev1.IsHeadlessService
	w := facts.Wanted{Look: facts.Look{Sight: facts.Seen}}
	failed := func(doing string, err error) facts.Wanted {
		if errors.Is(err, errTooMany) {
			return facts.Wanted{Look: facts.Look{Detail: fmt.Sprintf("they have more than %d endpoints", maxEndpoints)}}
		}
		l := lookOf(doing, err)
		l.Sight = facts.Failed
		return facts.Wanted{Look: l}
	}
	bounded := func() error {
		if len(w.List)+w.Endpoints > maxEndpoints {
			return errTooMany
		}
		return nil
	}
	err := list(ctx, a, servicesPath, params(served+",!"+serviceProxyName), func(s *corev1.Service) error {
		w.AddService(s)
		return bounded()
	})
	if err != nil {
		return failed("listing Services", err)
	}
	err = list(ctx, a, slicesPath, params(served), func(e *discoveryv1.EndpointSlice) error {
		w.AddSlice(e)
		return bounded()
	})
	if err != nil {
		return failed("listing EndpointSlices", err)
	}
	return w
}

// serviceProxyName labels a Service that another proxy serves (Kubernetes pkg/proxy/apis: LabelServiceProxyName).
const serviceProxyName = "service.kubernetes.io/service-proxy-name"
