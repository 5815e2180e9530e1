// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/apiserver"
	"github.com/cni-cutover/cni-cutover/internal/fleet"
)

var server *apiserver.Server

func TestMain(m *testing.M) {
	os.Exit(apiserver.Run(m, func(s *apiserver.Server) error {
		server = s
		return nil
	}))
}

// outcome is what a command did.
type outcome struct {
	code           int
	stdout, stderr string
}

// plugin runs the plugin as a person does.
func plugin(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &stdout, ErrOut: &stderr})
	return outcome{code, stdout.String(), stderr.String()}
}

// on runs the plugin on the test's cluster, as its administrator.
func on(t *testing.T, args ...string) outcome {
	t.Helper()
	return plugin(t, "", append(args, "--kubeconfig", server.Kubeconfig())...)
}

// want fails unless a command ended with this code and said these words.
func (o outcome) want(t *testing.T, code int, words ...string) outcome {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, w := range words {
		if !strings.Contains(o.stdout+o.stderr, w) {
			t.Errorf("%q is not said", w)
		}
	}
	if t.Failed() {
		t.Fatalf("stdout:\n%s\nstderr:\n%s", o.stdout, o.stderr)
	}
	return o
}

type world struct {
	t      *testing.T
	client client.WithWatch
}

// newWorld is a cluster without a Cutover.
func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := fleet.Scheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.NewWithWatch(server.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, c}
	w.clear(&v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName}})
	return w
}

// make creates objects, status included, and removes them when the test ends.
func (w *world) make(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		status := o.DeepCopyObject().(client.Object)
		if err := w.client.Create(context.Background(), o); err != nil {
			w.t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
		}
		w.t.Cleanup(func() { w.clear(o) })
		switch status.(type) {
		case *v1alpha1.Cutover, *v1alpha1.NodeCutover:
			status.SetResourceVersion(o.GetResourceVersion())
		case *corev1.Node, *corev1.Pod: // controllers write these too: whatever their version is
		default:
			continue
		}
		if err := w.client.Status().Update(context.Background(), status); err != nil {
			w.t.Fatalf("writing the status of %T %s: %v", o, o.GetName(), err)
		}
	}
}

func (w *world) clear(o client.Object) {
	w.t.Helper()
	err := w.client.Delete(context.Background(), o, client.GracePeriodSeconds(0))
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Errorf("deleting %T %s: %v", o, o.GetName(), err)
	}
}

func (w *world) cutover() *v1alpha1.Cutover {
	w.t.Helper()
	c := &v1alpha1.Cutover{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Name: v1alpha1.CutoverName}, c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// newCutover waits for its first approval.
func newCutover(change func(*v1alpha1.Cutover)) *v1alpha1.Cutover {
	c := &v1alpha1.Cutover{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName},
		Spec:       v1alpha1.CutoverSpec{Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.250.0.0/16"}, NodeMaskSize: 25}},
	}
	if change != nil {
		change(c)
	}
	return c
}

// as writes the kubeconfig of a ServiceAccount that may do what rules say, in the whole cluster.
func (w *world) as(name string, rules ...rbacv1.PolicyRule) string {
	w.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: name}},
	}
	w.make(account, role, binding)
	config, err := server.As(w.t.Context(), "default", name, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return kubeconfig(w.t, config)
}

func kubeconfig(t *testing.T, config *rest.Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"it": {Server: config.Host, CertificateAuthorityData: config.CAData, CertificateAuthority: config.CAFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"it": {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"it": {Cluster: "it", AuthInfo: "it"}},
		CurrentContext: "it",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryCommandExplainsItself(t *testing.T) {
	var walk func(c *cobra.Command)
	seen := 0
	walk = func(c *cobra.Command) {
		seen++
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Example == "" || !strings.Contains(c.Example, "kubectl cutover") {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(newRoot(genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}))
	if seen < 9 {
		t.Errorf("%d commands were seen", seen)
	}
	plugin(t, "", "--help").want(t, codeClean, "kubectl cutover density --instance-type", "--kubeconfig", "--context", "Exit codes")
	plugin(t, "", "approve", "--help").want(t, codeClean, "kubectl cutover approve PHASE", "--ahead")
	plugin(t, "", "--version").want(t, codeClean, version)
	plugin(t, "", "completion", "bash").want(t, codeClean, "bash completion")
	plugin(t, "", "__complete", "approve", "").want(t, codeClean, "FenceLegacy\nRollNodes\n")
	plugin(t, "", "fly").want(t, codeFailed, `unknown command "fly"`)
}

func TestWithoutAClusterAPersonIsToldWhy(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none")
	plugin(t, "", "status", "--kubeconfig", nowhere).want(t, codeFailed, "kubectl cutover:")
	plugin(t, "", "status", "--server", "https://127.0.0.1:1", "--kubeconfig", server.Kubeconfig()).want(t, codeFailed, "127.0.0.1:1")
}

func TestMissingRightsAreNamed(t *testing.T) {
	w := newWorld(t)
	w.make(newCutover(nil))
	read := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion().Group}, Resources: []string{"cutovers"}, Verbs: []string{"get"}}
	nothing, reader := w.as("nobody"), w.as("reader", read)
	for _, c := range []struct {
		args []string
		as   string
		code int
		says []string
	}{
		{[]string{"status"}, nothing, codeUnsure, []string{"could not tell", "may not get cutovers.cni-cutover.dev in the whole cluster", "kubectl auth can-i get cutovers.cni-cutover.dev"}},
		{[]string{"status", "-w"}, reader, codeUnsure, []string{"may not watch cutovers.cni-cutover.dev"}},
		{[]string{"pause"}, reader, codeFailed, []string{"may not patch cutovers.cni-cutover.dev"}},
		{[]string{"approve", "DecoupleIngress"}, reader, codeFailed, []string{"may not patch cutovers.cni-cutover.dev"}},
		{[]string{"density"}, nothing, codeUnsure, []string{"may not get daemonsets.apps in namespace kube-system", "can-i get daemonsets.apps -n kube-system"}},
		{[]string{"values", "check", "--live"}, nothing, codeUnsure, []string{"may not list nodes in the whole cluster", "may not list secrets in namespace kube-system", "may not get configmaps in namespace kube-system"}},
	} {
		t.Run(fmt.Sprint(c.args), func(t *testing.T) {
			plugin(t, "", append(c.args, "--kubeconfig", c.as)...).want(t, c.code, c.says...)
		})
	}
}
