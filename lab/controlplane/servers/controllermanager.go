// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"fmt"
	"path/filepath"

	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

func controllerManagerFlags(o Options) []string {
	return []string{
		"--kubeconfig=" + o.Dir.Kubeconfig(ControllerManager),
		// No port of its own: two laboratories would fight for it, and nothing here scrapes it.
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + o.Dir.Key("sa"),
		"--root-ca-file=" + o.Dir.Cert("ca"),
		"--cluster-signing-cert-file=" + o.Dir.Cert("ca"),
		"--cluster-signing-key-file=" + o.Dir.Key("ca"),
		"--allocate-node-cidrs=false",
		// A dead node is noticed in seconds, not in the default 50: kubelets must renew their lease faster
		// than this, which they do at a quarter of nodeLeaseDurationSeconds.
		"--node-monitor-period=1s",
		"--node-monitor-grace-period=12s",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
		// The default directory is created below /usr.
		"--flex-volume-plugin-dir=" + filepath.Join(string(o.Dir), "volume-plugins"),
		// The default ends the whole process when a controller is still busy after 10 s.
		"--controller-shutdown-timeout=0",
	}
}

func newControllerManager(o Options) (*options.KubeControllerManagerOptions, error) {
	s, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("taking the controller manager's default options: %w", err)
	}
	named := s.Flags(app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	args := append(controllerManagerFlags(o), o.ControllerManagerFlags...)
	if err := parseFlags(ControllerManager, named, args); err != nil {
		return nil, err
	}
	return s, nil
}

// runControllerManager runs the controllers until ctx ends.
func runControllerManager(ctx context.Context, s *options.KubeControllerManagerOptions) error {
	config, err := s.Config(ctx, app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases())
	if err != nil {
		return fmt.Errorf("checking the controller manager's options: %w", err)
	}
	if err := app.Run(ctx, config.Complete()); err != nil {
		return fmt.Errorf("running the controller manager: %w", err)
	}
	return nil
}
