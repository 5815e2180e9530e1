// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/lab/node"
)

// proxyConfigDir is where the container, and through its root the program, sees the settings.
const proxyConfigDir = "/var/lib/kube-proxy-config"

// deployKubeProxy creates the DaemonSet and the ConfigMap of the EKS add-on, under their
// names. The program and its iptables are the node's own.
func (c *Cluster) deployKubeProxy(ctx context.Context) error {
	settings := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy-config", Namespace: metav1.NamespaceSystem, Labels: proxyLabels()},
		Data:       map[string]string{"config": node.ProxyConfig},
	}
	_, configErr := c.client.CoreV1().ConfigMaps(settings.Namespace).Create(ctx, settings, metav1.CreateOptions{})
	set := kubeProxy()
	_, setErr := c.client.AppsV1().DaemonSets(set.Namespace).Create(ctx, set, metav1.CreateOptions{})
	for _, err := range []error{configErr, setErr} {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("deploying kube-proxy: %w", errors.Join(configErr, setErr))
		}
	}
	return nil
}

func proxyLabels() map[string]string { return map[string]string{"k8s-app": "kube-proxy"} }

func kubeProxy() *appsv1.DaemonSet {
	privileged, propagation := true, corev1.MountPropagationHostToContainer
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy", Namespace: metav1.NamespaceSystem, Labels: proxyLabels()},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: proxyLabels()},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: proxyLabels()},
				Spec: corev1.PodSpec{
					HostNetwork:       true,
					PriorityClassName: "system-node-critical",
					Tolerations:       []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{
						Name: "kube-proxy", Image: node.InRootImage, ImagePullPolicy: corev1.PullNever,
						Args: []string{
							"/host", node.Kube, "kube-proxy", "--v=2", "--config=" + proxyConfigDir + "/config", "--hostname-override=$(NODE_NAME)",
						},
						Env: []corev1.EnvVar{{
							Name: "NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}},
						}},
						SecurityContext: &corev1.SecurityContext{Privileged: &privileged},
						VolumeMounts: []corev1.VolumeMount{
							{Name: "root", MountPath: "/host", MountPropagation: &propagation},
							{Name: "config", MountPath: "/host" + proxyConfigDir},
						},
					}},
					Volumes: []corev1.Volume{
						{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
						{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
							LocalObjectReference: corev1.LocalObjectReference{Name: "kube-proxy-config"},
						}}},
					},
				},
			},
		},
	}
}
