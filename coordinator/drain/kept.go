// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/kubectl/pkg/drain"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// Kept is what there was to see of a node or more: what has to leave is judged of it without asking the cluster again. It holds what
// kubectl's rules ask for, and nothing else may be asked of it.
type Kept struct {
	Pods []corev1.Pod
	// DaemonSets are at least those that the pods belong to, as far as they are there.
	DaemonSets map[types.NamespacedName]bool
}

// Look returns what is left to do before the pods are gone that have to be. Those of DaemonSets and mirror pods stay.
func (k Kept) Look(options v1alpha1.Drain) (plan.Drain, error) {
	helper := &drain.Helper{
		Ctx: context.Background(), Client: keptClient{k: k}, IgnoreAllDaemonSets: true, GracePeriodSeconds: -1, Out: io.Discard, ErrOut: io.Discard,
		Force:              options.Force,
		DeleteEmptyDirData: options.DeleteEmptyDirData == nil || *options.DeleteEmptyDirData,
	}
	list, errs := helper.GetPodsForDeletion("")
	if list == nil {
		return plan.Drain{}, fmt.Errorf("choosing the pods to evict: %w", errors.Join(errs...))
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

type keptClient struct {
	kubernetes.Interface // nil: nothing but what is below is asked
	k                    Kept
}

func (c keptClient) CoreV1() coreclient.CoreV1Interface { return keptCore{k: c.k} }
func (c keptClient) AppsV1() appsclient.AppsV1Interface { return keptApps{k: c.k} }

type keptCore struct {
	coreclient.CoreV1Interface
	k Kept
}

func (c keptCore) Pods(string) coreclient.PodInterface { return keptPods{k: c.k} }

type keptPods struct {
	coreclient.PodInterface
	k Kept
}

func (c keptPods) List(context.Context, metav1.ListOptions) (*corev1.PodList, error) {
	return &corev1.PodList{Items: c.k.Pods}, nil
}

type keptApps struct {
	appsclient.AppsV1Interface
	k Kept
}

func (c keptApps) DaemonSets(namespace string) appsclient.DaemonSetInterface {
	return keptDaemonSets{k: c.k, namespace: namespace}
}

type keptDaemonSets struct {
	appsclient.DaemonSetInterface
	k         Kept
	namespace string
}

func (c keptDaemonSets) Get(_ context.Context, name string, _ metav1.GetOptions) (*appsv1.DaemonSet, error) {
	if !c.k.DaemonSets[types.NamespacedName{Namespace: c.namespace, Name: name}] {
		return nil, apierrors.NewNotFound(appsv1.Resource("daemonsets"), name)
	}
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}, nil
}
