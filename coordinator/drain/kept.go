// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package drain

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// Kept is a cluster that somebody has looked at before: what Look would say of its pods is known without asking it again.
// It holds what kubectl's rules ask for, and nothing else may be asked of it.
type Kept struct {
	// Pods of a node.
	Pods []corev1.Pod
	// DaemonSets are those of the whole cluster.
	DaemonSets map[types.NamespacedName]bool
}

// Look is the judgement of the drain of a cluster that was kept.
func (k Kept) Look(options v1alpha1.Drain) (plan.Drain, error) {
	return Look(context.Background(), keptClient{k: k}, "", options)
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
