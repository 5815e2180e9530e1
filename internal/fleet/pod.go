// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Pod makes a pod on a node that no controller would make again, changed as the test wants, and waits until it runs. It is
// called app=name.
func (f *Fleet) Pod(node, name string, change func(*corev1.Pod)) *corev1.Pod {
	f.tb.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: name, Image: "none"}}},
	}
	if change != nil {
		change(p)
	}
	f.must(f.Client.Create(f.ctx, p))
	Eventually(f.tb, 10*time.Second, func() string {
		f.must(f.Client.Get(f.ctx, client.ObjectKeyFromObject(p), p))
		if p.Status.Phase == corev1.PodRunning {
			return ""
		}
		return fmt.Sprintf("pod %s is %s", name, p.Status.Phase)
	})
	return p
}

// EndPod ends a pod at once, as a person would.
func (f *Fleet) EndPod(name string) {
	f.tb.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}
	f.must(client.IgnoreNotFound(f.Client.Delete(f.ctx, p, client.GracePeriodSeconds(0))))
}
