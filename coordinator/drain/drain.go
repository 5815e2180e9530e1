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
		left.Impossible = append(left.Impossible, err.Error())
	}
	for _, pod := range list.Pods() {
		if pod.DeletionTimestamp != nil {
			left.Going++
			continue
		}
		left.Evict = append(left.Evict, plan.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Created: pod.CreationTimestamp.Time})
	}
	return left, nil
}

// Refusal is why a pod was not evicted.
type Refusal struct {
	Reason  v1alpha1.Reason
	Message string
}

// Evict posts one Eviction for a pod, with its UID as a precondition so that a pod that was re-created under the same name
// is left alone. It returns nil if the pod is going or gone.
func Evict(ctx context.Context, client kubernetes.Interface, pod plan.Pod) *Refusal {
	uid := pod.UID
	err := client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	})
	name := pod.Namespace + "/" + pod.Name
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil
	case apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		return &Refusal{Reason: v1alpha1.EvictionBlocked, Message: fmt.Sprintf("a PodDisruptionBudget does not allow pod %s to be evicted: %v", name, err)}
	default:
		return &Refusal{Reason: v1alpha1.EvictionRefused, Message: fmt.Sprintf("evicting pod %s: %v", name, err)}
	}
}

// Attached returns the names of the volumes that are attached to a node.
func Attached(ctx context.Context, client kubernetes.Interface, node string) ([]string, error) {
	// VolumeAttachments have no field selector for their node.
	list, err := client.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing volume attachments: %w", err)
	}
	names := []string{}
	for _, a := range list.Items {
		if a.Spec.NodeName != node || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		names = append(names, *a.Spec.Source.PersistentVolumeName)
	}
	return names, nil
}
