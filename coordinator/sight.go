// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Sight knows whether the caches still see the cluster: without the right to list and watch, a cache goes on showing what it
// saw last, or is never filled. Its zero value is ready.
type Sight struct {
	mu      sync.Mutex
	failing map[*toolscache.Reflector]failure
	tell    func(*refusal)
}

// failure is a watch that was refused when it had seen this version of the cluster.
type failure struct {
	version string
	err     error
}

// Cache bounds what is cached, of pods and DaemonSets those of the CNIs' namespace, and lets Sight know of every watch that
// fails.
func (s *Sight) Cache(cniNamespace string) cache.Options {
	inCNI := cache.ByObject{Namespaces: map[string]cache.Config{cniNamespace: {}}}
	return cache.Options{
		DefaultTransform:         Slim,
		ByObject:                 map[client.Object]cache.ByObject{&corev1.Pod{}: inCNI, &appsv1.DaemonSet{}: inCNI},
		DefaultWatchErrorHandler: s.failed,
	}
}

// failed takes note of a watch that could not begin for want of a right; all others are begun again and are no news.
func (s *Sight) failed(ctx context.Context, r *toolscache.Reflector, err error) {
	toolscache.DefaultWatchErrorHandler(ctx, r, err)
	if !lacksRight(err) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing == nil {
		s.failing = map[*toolscache.Reflector]failure{}
	}
	_, known := s.failing[r]
	version := r.LastSyncResourceVersion()
	s.failing[r] = failure{version: version, err: fmt.Errorf("watching %s: %w", r.TypeDescription(), err)}
	if known || version != "" {
		return // the next look at the world tells
	}
	// A coordinator does not begin to look before its caches are filled.
	why := refuse("nothing moves", s.failing[r].err, v1alpha1.PermissionMissing)
	log.FromContext(ctx).Info(why.Message, "reason", why.Reason)
	if s.tell != nil {
		s.tell(why)
	}
}

// Blind returns why a cache does not see the cluster; nil if all do. One that has seen a later version since sees again.
func (s *Sight) Blind() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, f := range s.failing {
		if r.LastSyncResourceVersion() != f.version {
			delete(s.failing, r)
			continue
		}
		return f.err
	}
	return nil
}

// Ready is a readiness check.
func (s *Sight) Ready(*http.Request) error { return s.Blind() }
