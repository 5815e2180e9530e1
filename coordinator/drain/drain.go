// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package drain says which pods have to leave a node, and asks them to, one Eviction each. kubectl's own rules choose the
// pods (k8s.io/kubectl/pkg/drain); its loop, which blocks until the last pod is gone, is not used: a coordinator that may
// die at any line looks, asks, and looks again.
package drain

import (
	"context"
	"fmt"
	"io"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/drain"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// Look returns what is left to do on a node before it is empty. Pods of DaemonSets and mirror pods stay.
func Look(ctx context.Context, client kubernetes.Interface, node string, options v1alpha1.Drain) (plan.Drain, error) {
	helper := &drain.Helper{
		Ctx: ctx, Client: client, IgnoreAllDaemonSets: true, GracePeriodSeconds: -1, Out: io.Discard, ErrOut: io.Discard,
		Force:              options.Force,
		DeleteEmptyDirData: options.DeleteEmptyDirData == nil || *options.DeleteEmptyDirData,
	}
	list, errs := helper.GetPodsForDeletion(node)
	if list == nil {
		return plan.Drain{}, fmt.Errorf("choosing the pods to evict from %s: %v", node, errs)
	}
	var left plan.Drain
	for _, err := range errs {
		left.Impossible = append(left.Impossible, ourOptions().Replace(err.Error()))
	}
	for _, pod := range list.Pods() {
		if pod.DeletionTimestamp != nil {
			left.Going++
			left.Leaving = append(left.Leaving, plan.Leaving{Pod: pod.Namespace + "/" + pod.Name, Due: pod.DeletionTimestamp.Time, Finalizers: pod.Finalizers})
			continue
		}
		left.Evict = append(left.Evict, plan.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Created: pod.CreationTimestamp.Time})
	}
	return left, nil
}

// ourOptions turns kubectl's advice (pkg/drain/filters.go) into ours: the options of a slot that was granted stay as they are.
func ourOptions() *strings.Replacer {
	return strings.NewReplacer(
		"use --force to override", "delete them yourself if they may go, or set rollout.drain.force for the slots to come",
		"use --delete-emptydir-data to override", "delete them yourself if they may go, or set rollout.drain.deleteEmptyDirData for the slots to come",
	)
}

// Evict posts one Eviction for a pod, with its UID as a precondition so that a pod that was re-created under the same name
// is left alone. It returns nil if the pod is going or gone.
func Evict(ctx context.Context, client kubernetes.Interface, pod plan.Pod) error {
	uid := pod.UID
	err := client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// Attached returns the names of the volumes that are attached, by the name of their node. VolumeAttachments have no field
// selector for it.
func Attached(ctx context.Context, client kubernetes.Interface) (map[string][]string, error) {
	list, err := client.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing volume attachments: %w", err)
	}
	names := map[string][]string{}
	for i := range list.Items {
		a := &list.Items[i]
		name := a.Name // of a volume written into its pod, without a PersistentVolume
		if volume := a.Spec.Source.PersistentVolumeName; volume != nil {
			name = *volume
		}
		names[a.Spec.NodeName] = append(names[a.Spec.NodeName], name)
	}
	return names, nil
}
