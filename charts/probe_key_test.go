// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestTheKeyOfTheAgentsIsMadeOnceAndKept installs and upgrades with the real helm: a new key at each upgrade would make agents of
// before and after strangers to each other.
func TestTheKeyOfTheAgentsIsMadeOnceAndKept(t *testing.T) {
	k := start(t)
	home := t.TempDir()
	for _, name := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		t.Setenv(name, home)
	}
	helm := func(args ...string) {
		t.Helper()
		args = append(args, "--kubeconfig", k.server.Kubeconfig(), "--namespace", release)
		if _, complaint, err := runHelm(t, args...); err != nil {
			t.Fatalf("helm %v: %v\n%s", args, err, complaint)
		}
	}
	key := func() []byte {
		t.Helper()
		var s corev1.Secret
		if err := k.Get(t.Context(), client.ObjectKey{Namespace: release, Name: "cutover-agent-probe"}, &s); err != nil {
			t.Fatal(err)
		}
		return s.Data["current"]
	}
	helm("install", release, ".", "--create-namespace", "--skip-crds")
	first := key()
	if len(first) != 48 {
		t.Fatalf("a key of %d bytes, want 48", len(first))
	}
	helm("upgrade", release, ".", "--set", "agent.maxUnavailable=1")
	if !bytes.Equal(key(), first) {
		t.Error("an upgrade has made another key")
	}
	helm("upgrade", release, ".", "--set", "agent.pathProbes.secret=own")
	if err := k.Get(t.Context(), client.ObjectKey{Namespace: release, Name: "cutover-agent-probe"}, &corev1.Secret{}); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("a key of the chart's although there is another Secret: %v", err)
	}
}
