// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// logLines is how many of the last lines of a container's log a diagnosis quotes.
const logLines = 15

// Diagnose says which pods are not Ready and what their containers said last, for whoever reads why a scene does not stand.
// It gives up on nothing: what it cannot read it says.
func (e *Env) Diagnose(ctx context.Context) string {
	var pods corev1.PodList
	if err := e.Client.List(ctx, &pods); err != nil {
		return fmt.Sprintf("listing pods: %v", err)
	}
	var b strings.Builder
	for i := range pods.Items {
		p := &pods.Items[i]
		if ready(p) {
			continue
		}
		fmt.Fprintf(&b, "%s/%s on %s is %s and not Ready\n", p.Namespace, p.Name, p.Spec.NodeName, p.Status.Phase)
		for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			e.quote(ctx, &b, p, c)
		}
	}
	if b.Len() == 0 {
		return "every pod is Ready"
	}
	return b.String()
}

func (e *Env) quote(ctx context.Context, b *strings.Builder, p *corev1.Pod, c corev1.ContainerStatus) {
	if c.Ready && c.RestartCount == 0 {
		return
	}
	fmt.Fprintf(b, "  %s: %d restarts, %s\n", c.Name, c.RestartCount, state(c.State))
	lines := int64(logLines)
	for _, previous := range []bool{true, false} {
		if previous && c.RestartCount == 0 {
			continue
		}
		log, err := e.Kube.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: c.Name, Previous: previous, TailLines: &lines}).DoRaw(ctx)
		if err != nil {
			fmt.Fprintf(b, "    its log cannot be read: %v\n", err)
			continue
		}
		for line := range strings.Lines(string(log)) {
			fmt.Fprintf(b, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
}

func state(s corev1.ContainerState) string {
	switch {
	case s.Waiting != nil:
		return "waiting: " + s.Waiting.Reason + " " + s.Waiting.Message
	case s.Terminated != nil:
		return fmt.Sprintf("ended with %d: %s %s", s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message)
	case s.Running != nil:
		return "running"
	}
	return "not started"
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return p.Status.Phase == corev1.PodSucceeded
}
