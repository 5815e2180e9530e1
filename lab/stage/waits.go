// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"fmt"
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/lab/app"
)

// WaitDaemonSet waits until a DaemonSet's newest pods are ready on every node it wants, and it
// wants at least one.
func (e *Env) WaitDaemonSet(ctx context.Context, namespace, name string) error {
	err := poll(ctx, func(ctx context.Context) (string, error) {
		var ds appsv1.DaemonSet
		if err := e.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &ds); err != nil {
			return "", err
		}
		s := ds.Status
		if s.ObservedGeneration < ds.Generation || s.DesiredNumberScheduled == 0 ||
			s.UpdatedNumberScheduled != s.DesiredNumberScheduled || s.NumberReady != s.DesiredNumberScheduled {
			return fmt.Sprintf("%d of %d pods are new, %d ready", s.UpdatedNumberScheduled, s.DesiredNumberScheduled, s.NumberReady), nil
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("waiting for DaemonSet %s/%s: %w", namespace, name, err)
	}
	return nil
}

// WaitDeployment waits until every replica of a Deployment is of its newest kind and available.
func (e *Env) WaitDeployment(ctx context.Context, namespace, name string) error {
	err := poll(ctx, func(ctx context.Context) (string, error) {
		var d appsv1.Deployment
		if err := e.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &d); err != nil {
			return "", err
		}
		want := *d.Spec.Replicas
		if s := d.Status; s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.AvailableReplicas != want {
			return fmt.Sprintf("%d of %d replicas are new, %d available", s.UpdatedReplicas, want, s.AvailableReplicas), nil
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("waiting for Deployment %s/%s: %w", namespace, name, err)
	}
	return nil
}

// WaitApps waits until every application has all its replicas.
func (e *Env) WaitApps(ctx context.Context) error {
	for _, a := range app.Apps() {
		if err := e.WaitDeployment(ctx, a.Namespace, a.Flavour); err != nil {
			return err
		}
	}
	return nil
}

// Workload lists the pods that have a network of their own and have not ended: those that a CNI
// is responsible for.
func Workload(ctx context.Context, c client.Reader) ([]corev1.Pod, error) {
	var all corev1.PodList
	if err := c.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	var pods []corev1.Pod
	for _, pod := range all.Items {
		if !pod.Spec.HostNetwork && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// Overlay is the pod network that nodes move to.
func Overlay() netip.Prefix { return netip.MustParsePrefix("10.244.0.0/16") }

// InOverlay says whether a pod has an address of the overlay.
func InOverlay(pod corev1.Pod) bool {
	address, err := netip.ParseAddr(pod.Status.PodIP)
	return err == nil && Overlay().Contains(address)
}
