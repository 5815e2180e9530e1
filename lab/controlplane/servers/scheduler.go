// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"fmt"

	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

func schedulerFlags(o Options) []string {
	return []string{
		"--kubeconfig=" + o.Dir.Kubeconfig(Scheduler),
		"--secure-port=0",
		"--leader-elect=false",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	}
}

func newScheduler(o Options) (*options.Options, error) {
	s := options.NewOptions()
	if err := parseFlags(Scheduler, *s.Flags, append(schedulerFlags(o), o.SchedulerFlags...)); err != nil {
		return nil, err
	}
	return s, nil
}

// runScheduler schedules until ctx ends and calls started once its caches have everything the API server has.
func runScheduler(ctx context.Context, s *options.Options, started func()) error {
	config, scheduler, err := app.Setup(ctx, s)
	if err != nil {
		return fmt.Errorf("setting the scheduler up: %w", err)
	}
	go func() {
		if scheduler.WaitForHandlersSync(ctx) == nil {
			started()
		}
	}()
	// Without leader election the scheduler's Run always ends in an error, also when it was asked to end.
	if err := app.Run(ctx, config, scheduler); err != nil && ctx.Err() == nil {
		return fmt.Errorf("running the scheduler: %w", err)
	}
	return nil
}
