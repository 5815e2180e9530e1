// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/stage"
)

// inNode is the path of a node's file as this machine sees it.
func inNode(host lab.Host, path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", host.PID), path)
}

// commands are two command lines of the node: one that breaks, one that mends.
func commands(plant, cure string) trouble { return trouble{run(plant), run(cure)} }

// run runs command lines on the node, without a shell.
func run(lines ...string) hand {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		for _, line := range lines {
			if _, err := s.env.Cluster.Exec(ctx, host.Name, strings.Fields(line)...); err != nil {
				return err
			}
		}
		return nil
	}
}

// inOrder does one thing after the other.
func inOrder(hands ...hand) hand {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		for _, h := range hands {
			if err := h(ctx, s, host); err != nil {
				return err
			}
		}
		return nil
	}
}

// onLinks works on the node's network by rtnetlink.
func onLinks(host lab.Host, do func(*netlink.Handle) error) error {
	space, err := netns.GetFromPid(host.PID)
	if err != nil {
		return fmt.Errorf("opening the network of %s: %w", host.Name, err)
	}
	defer space.Close()
	h, err := netlink.NewHandleAt(space)
	if err != nil {
		return fmt.Errorf("opening rtnetlink of %s: %w", host.Name, err)
	}
	defer h.Close()
	return do(h)
}

// inNetwork runs do in the network of a node. Its thread ends with it, so that a way back that fails harms nobody.
func inNetwork(host lab.Host, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		space, err := netns.GetFromPid(host.PID)
		if err == nil {
			defer space.Close()
			err = netns.Set(space)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// restartCilium deletes Cilium's pod of the node, as the runbook has it, and waits for the next one: a new pod resolves its
// configuration again and is not held back as a container that keeps ending is.
func restartCilium(ctx context.Context, s *scene, host lab.Host) error {
	old, err := s.podOn(ctx, host.Name, "kube-system", "cilium")
	if err != nil {
		return err
	}
	if err := s.env.Client.Delete(ctx, old, client.GracePeriodSeconds(1), client.Preconditions{UID: &old.UID}); err != nil {
		return err
	}
	return until(ctx, 30*time.Second, func() string {
		p, err := s.podOn(ctx, host.Name, "kube-system", "cilium")
		switch {
		case err != nil:
			return err.Error()
		case p.UID == old.UID || !running(p):
			return "Cilium's next pod on " + host.Name + " does not run"
		}
		return ""
	})
}

// podOn finds the pod of a DaemonSet on a node by the label that it goes by.
func (s *scene) podOn(ctx context.Context, node, namespace, app string) (*corev1.Pod, error) {
	var pods corev1.PodList
	if err := s.env.Client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"k8s-app": app}, client.MatchingFields{"spec.nodeName": node}); err != nil {
		return nil, err
	}
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			return &pods.Items[i], nil
		}
	}
	return nil, fmt.Errorf("looking for %s on %s: none is there", app, node)
}

func running(p *corev1.Pod) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running == nil {
			return false
		}
	}
	return len(p.Status.ContainerStatuses) > 0
}

// newPod makes a pod on a node, past the scheduler, and waits for its address.
func newPod(name string) hand {
	return func(ctx context.Context, s *scene, host lab.Host) error {
		off, at := false, int64(0)
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
			NodeName: host.Name, AutomountServiceAccountToken: &off, EnableServiceLinks: &off, TerminationGracePeriodSeconds: &at,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "app", Image: "lab/app:dev", ImagePullPolicy: corev1.PullNever, Args: []string{"--flavour=nginx", "--listen=:8080"}}},
		}}
		if err := s.env.Client.Create(ctx, p); err != nil {
			return err
		}
		return until(ctx, 30*time.Second, func() string {
			if err := s.env.Client.Get(ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err.Error()
			}
			if p.Status.PodIP == "" {
				return "no address of pod " + name
			}
			return ""
		})
	}
}

// endPod deletes a pod at once; the kubelet ends its containers in its own time.
func endPod(name string) hand {
	return func(ctx context.Context, s *scene, _ lab.Host) error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		return s.env.Client.Delete(ctx, p, client.GracePeriodSeconds(0))
	}
}

// podAddress returns the address of a pod made by newPod.
func (s *scene) podAddress(ctx context.Context, name string) (string, error) {
	var p corev1.Pod
	err := s.env.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, &p)
	return p.Status.PodIP, err
}

// wantAddress fails unless a pod made by newPod has an address of the sort that the fault is about.
func wantAddress(name string, overlay bool, prefix string) hand {
	return func(ctx context.Context, s *scene, _ lab.Host) error {
		var p corev1.Pod
		if err := s.env.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, &p); err != nil {
			return err
		}
		if stage.InOverlay(p) != overlay || !strings.HasPrefix(p.Status.PodIP, prefix) {
			return fmt.Errorf("looking at pod %s: its address is %s, so the fault is not planted", name, p.Status.PodIP)
		}
		return nil
	}
}
