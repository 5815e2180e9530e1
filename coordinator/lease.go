// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
)

// Times of leadership: a lease is taken over LeaseDuration after its last renewal at the earliest. RenewDeadline and what an
// action may take at most (moveTimeout) fit into that.
const (
	LeaseDuration = 15 * time.Second
	RenewDeadline = LeaseDuration - moveTimeout
	RetryPeriod   = 2 * time.Second
)

// Lease is the lock by which one coordinator leads. It also knows whether that is certain, which leader election does not: a
// process that was stopped for minutes (SIGSTOP, a paused virtual machine) and goes on tries for RenewDeadline to renew what
// is another's by then, and would act all that time.
type Lease struct {
	resourcelock.Interface

	mu      sync.Mutex
	renewed time.Time // when the last renewal that succeeded was begun
}

// NewLease makes the lock. holder is the name of this coordinator; what holds the lease is that name and one of this process.
func NewLease(config *rest.Config, scheme *runtime.Scheme, namespace, holder string) (*Lease, error) {
	// A request that hangs must not cost the leadership.
	config = rest.CopyConfig(config)
	config.Timeout = RenewDeadline / 2
	kube, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "leader-election"))
	if err != nil {
		return nil, fmt.Errorf("making a client for the lease: %w", err)
	}
	events := record.NewBroadcaster()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kube.CoreV1().Events(namespace)})
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, namespace, "cutover-coordinator", kube.CoreV1(), kube.CoordinationV1(), resourcelock.ResourceLockConfig{
		Identity:      holder + "_" + uuid.NewString(),
		EventRecorder: events.NewRecorder(scheme, corev1.EventSource{Component: holder}),
	})
	if err != nil {
		return nil, fmt.Errorf("making the lease: %w", err)
	}
	return &Lease{Interface: lock}, nil
}

// Create makes the lease.
func (l *Lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, r, l.Interface.Create)
}

// Update renews the lease, takes it over, or gives it up.
func (l *Lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, r, l.Interface.Update)
}

func (l *Lease) write(ctx context.Context, r resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error) error {
	var begun time.Time // of nothing, where the lease is given up
	if r.HolderIdentity == l.Identity() {
		begun = time.Now() // others count from when they see the renewal, which is later
	} else {
		l.set(begun)
	}
	err := write(ctx, r)
	if err == nil {
		l.set(begun)
	}
	return err
}

func (l *Lease) set(renewed time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = renewed
}

// Certain says whether nobody else can lead before an action that begins now has ended.
func (l *Lease) Certain() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	// By both clocks: the monotonic one stands still while a machine is suspended, the other one may be set back.
	return !l.renewed.IsZero() && max(now.Sub(l.renewed), now.Round(0).Sub(l.renewed.Round(0))) < RenewDeadline
}
