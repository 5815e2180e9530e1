// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab/standin/cilium"
)

// InstallCilium installs Cilium beside the VPC CNI, in the scene's install mode.
func (e *Env) InstallCilium(ctx context.Context) error {
	return e.step(ctx, fmt.Sprintf("Cilium beside it (install mode %s)", e.options.Install), func(ctx context.Context) error {
		objects, err := Decode(cilium.Manifest)
		if err != nil {
			return err
		}
		if e.options.Install == v1alpha1.InstallShared {
			if err := share(objects); err != nil {
				return err
			}
		}
		if err := e.ApplyObjects(ctx, objects); err != nil {
			return err
		}
		if err := e.WaitDeployment(ctx, "kube-system", "cilium-operator"); err != nil {
			return err
		}
		return e.WaitDaemonSet(ctx, "kube-system", "cilium")
	})
}

// share turns the manifest into that of the migration as it was published: with customConf and
// exclusive both false Cilium writes its conflist on every node, and sorts first.
func share(objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if object.GetKind() != "ConfigMap" || object.GetName() != "cilium-config" {
			continue
		}
		for key, value := range map[string]string{
			"custom-cni-conf": "false", "cni-exclusive": "false",
			"write-cni-conf-when-ready": "/host/etc/cni/net.d/05-cilium.conflist",
		} {
			if err := unstructured.SetNestedField(object.Object, value, "data", key); err != nil {
				return fmt.Errorf("setting %s of cilium-config: %w", key, err)
			}
		}
		return nil
	}
	return fmt.Errorf("configuring Cilium: its manifest has no ConfigMap cilium-config")
}

// Namespace is where our chart is installed.
const Namespace = "cni-cutover"

// InstallChart installs our chart from our images with the real helm and waits for what it made.
func (e *Env) InstallChart(ctx context.Context) error {
	for _, name := range []string{"agent", "coordinator"} {
		if _, err := os.Stat(filepath.Join(e.root, "bin", "images", name+".tar")); err != nil {
			return fmt.Errorf("installing our chart: %w: run make images", err)
		}
	}
	return e.step(ctx, "our chart: agents and coordinator", func(ctx context.Context) error {
		values := append([]string{
			"agent.image=cni-cutover/agent", "coordinator.image=cni-cutover/coordinator", "image.tag=dev", "image.pullPolicy=Never",
		}, e.options.ChartValues...)
		if _, err := e.helm(ctx, "install", "cni-cutover", filepath.Join(e.root, "charts", "cni-cutover"),
			"--namespace", Namespace, "--create-namespace", "--set", strings.Join(values, ",")); err != nil {
			return err
		}
		if err := e.WaitDeployment(ctx, Namespace, "cutover-coordinator"); err != nil {
			return err
		}
		return e.WaitDaemonSet(ctx, Namespace, "cutover-agent")
	})
}

// helm runs helm with nothing of the calling person's: no plugins, no repositories, no cache.
func (e *Env) helm(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(e.root, "bin", "helm"), append(args, "--kubeconfig", e.Cluster.Kubeconfig())...)
	home := filepath.Join(e.Cluster.State(), "helm")
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running helm %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
