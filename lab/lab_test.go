// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/image"
)

func TestMain(m *testing.M) {
	lab.Main()
	if os.Getenv(ownerEnv) != "" {
		own()
	}
	os.Exit(m.Run())
}

func TestCluster(t *testing.T) {
	needsRoot(t)
	ctx := deadline(t, 5*time.Minute)
	before := sysctls(t)
	c, err := lab.Start(ctx, lab.Config{Nodes: 2, Zones: []string{"lab-a", "lab-b"}, Images: []string{hello(t)}})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	t.Cleanup(func() {
		if !stopped {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
	nodes, err := c.Nodes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 2 || nodes[0].Name != "node-1" || nodes[1].Instance.Zone != "lab-b" {
		t.Fatalf("nodes are %+v, want node-1 in lab-a and node-2 in lab-b", nodes)
	}

	t.Run("a node without a conflist is not Ready", func(t *testing.T) { checkNotReady(ctx, t, c, "node-1") })
	for _, node := range nodes {
		writeConflist(ctx, t, c, node)
	}
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	pods := deploy(ctx, t, c)
	t.Run("pods are reached from every machine", func(t *testing.T) { checkReach(ctx, t, c, pods) })
	t.Run("kube-proxy makes Services reachable", func(t *testing.T) { checkService(ctx, t, c) })
	t.Run("a command ends with its context", func(t *testing.T) { checkCancel(ctx, t, c) })
	t.Run("a pod sees its node's boot through the host's root", func(t *testing.T) { checkBoot(ctx, t, c, pods) })
	t.Run("the API server reaches kubelets", func(t *testing.T) { checkLogs(ctx, t, c, pods[0]) })
	t.Run("the VPC drops sources that an interface does not own", func(t *testing.T) { checkSource(ctx, t, c) })
	t.Run("the machine's kernel settings stay as they were", func(t *testing.T) { same(t, before, sysctls(t)) })
	t.Run("the audit log is written", func(t *testing.T) {
		if text, err := os.ReadFile(c.AuditLog()); err != nil || !strings.Contains(string(text), `"resource":"pods"`) {
			t.Errorf("audit log %s: %v, %d bytes without a word of pods", c.AuditLog(), err, len(text))
		}
	})
	t.Run("another process can use the lab", func(t *testing.T) {
		other, err := lab.Attach(ctx, c.State())
		if err != nil {
			t.Fatal(err)
		}
		if out, err := other.Exec(ctx, "node-2", "hostname"); err != nil || out != "node-2\n" {
			t.Errorf("hostname on node-2 is %q, %v", out, err)
		}
		if err := other.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a terminated node is replaced", func(t *testing.T) { checkReplace(ctx, t, c, nodes[1]) })

	left := remember(ctx, t, c)
	stopped = true
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	left.check(t)
	same(t, before, sysctls(t))
}

func TestStartSaysWhyAndLeavesNothing(t *testing.T) {
	needsRoot(t)
	ctx := deadline(t, 2*time.Minute)
	broken := filepath.Join(t.TempDir(), "broken.tar")
	if err := os.WriteFile(broken, []byte("this is no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := sysctls(t)
	c, err := lab.Start(ctx, lab.Config{Nodes: 1, Images: []string{broken}})
	if err == nil {
		t.Fatal("a lab started with a broken image: ", c.Stop())
	}
	for _, want := range []string{"node-1", "import-broken.tar", "ctr:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not mention %q: %v", want, err)
		}
	}
	state := regexp.MustCompile(regexp.QuoteMeta(os.TempDir()) + `/cutover-lab-\d+`).FindString(err.Error())
	if state == "" {
		t.Fatalf("the error does not say where the logs were: %v", err)
	}
	leftovers{state: state}.check(t)
	same(t, before, sysctls(t))
}

func checkNotReady(ctx context.Context, t *testing.T, c *lab.Cluster, name string) {
	node, err := c.Client().CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			t.Errorf("%s is Ready: %s", name, condition.Message)
		}
	}
}

// writeConflist gives pods the secondary addresses of the node's primary interface.
func writeConflist(ctx context.Context, t *testing.T, c *lab.Cluster, node lab.Host) {
	t.Helper()
	eni := node.Instance.Interfaces[0]
	cmd, err := c.Command(ctx, node.Name, "tee", "/etc/cni/net.d/10-test.conflist")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "ptp", "mtu": 9001, "ipam": {
		"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
		"ranges": [[{"subnet": %q, "rangeStart": %q, "rangeEnd": %q, "gateway": %q}]]}}]}`,
		eni.Subnet, eni.Secondary[0], eni.Secondary[len(eni.Secondary)-1], eni.Primary))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("writing a conflist on %s: %v: %s", node.Name, err, out)
	}
}

// deploy runs one pod of the test's image on each of two nodes.
func deploy(ctx context.Context, t *testing.T, c *lab.Cluster) []corev1.Pod {
	t.Helper()
	labels := map[string]string{"app": "hello"}
	two, propagation, never := int32(2), corev1.MountPropagationHostToContainer, int64(0)
	_, err := c.Client().AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "hello"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &never,
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					Volumes: []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}},
					Containers: []corev1.Container{{
						Name: "hello", Image: "lab/hello:test", ImagePullPolicy: corev1.PullNever,
						VolumeMounts: []corev1.VolumeMount{{Name: "host", MountPath: "/host", ReadOnly: true, MountPropagation: &propagation}},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return running(ctx, t, c)
}

// running waits for two running pods.
func running(ctx context.Context, t *testing.T, c *lab.Cluster) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	poll(ctx, t, "two running pods", func() (string, bool) {
		list, err := c.Client().CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=hello"})
		if err != nil {
			return err.Error(), false
		}
		pods = slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool {
			return pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning
		})
		return fmt.Sprintf("%d of %d run", len(pods), len(list.Items)), len(pods) == 2
	})
	return pods
}

func checkReach(ctx context.Context, t *testing.T, c *lab.Cluster, pods []corev1.Pod) {
	for _, machine := range []string{"node-1", "node-2", lab.Client, lab.ControlPlane} {
		for _, pod := range pods {
			out, err := c.Exec(ctx, machine, "curl", "-sS", "--max-time", "5", "http://"+pod.Status.PodIP+":8080/")
			if err != nil || out != pod.Name+"\n" {
				t.Errorf("%s on %s answers %s with %q: %v", pod.Name, pod.Spec.NodeName, machine, out, err)
			}
		}
	}
}

// checkService asks a Service by its cluster address from a node and by a node's port from
// the client; the other node's pod must be among the answers, too.
func checkService(ctx context.Context, t *testing.T, c *lab.Cluster) {
	service, err := c.Client().CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "hello"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "hello"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for machine, url := range map[string]string{
		"node-1":   "http://" + service.Spec.ClusterIP + "/",
		lab.Client: fmt.Sprintf("http://10.0.1.10:%d/", service.Spec.Ports[0].NodePort),
	} {
		answers := map[string]bool{}
		poll(ctx, t, "two pods to answer "+machine+" at "+url, func() (string, bool) {
			out, err := c.Exec(ctx, machine, "curl", "-sS", "--max-time", "2", url)
			if err == nil {
				answers[out] = true
			}
			return fmt.Sprint(answers, err), len(answers) == 2
		})
	}
}

func checkCancel(ctx context.Context, t *testing.T, c *lab.Cluster) {
	ctx, cancel := context.WithCancel(ctx)
	cmd, err := c.Command(ctx, "node-1", "sleep", "86399")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	find := func() (string, bool) {
		_, err := c.Exec(t.Context(), "node-1", "pgrep", "-f", "^sleep 86399")
		return fmt.Sprint(err), err == nil
	}
	poll(ctx, t, "the command to run", find)
	cancel()
	_ = cmd.Wait() // killed
	poll(t.Context(), t, "the command to end", func() (string, bool) {
		state, running := find()
		return state, !running
	})
}

func checkBoot(ctx context.Context, t *testing.T, c *lab.Cluster, pods []corev1.Pod) {
	seen := map[string]bool{}
	for _, pod := range pods {
		node, err := c.Client().CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Exec(ctx, lab.Client, "curl", "-sS", "--max-time", "5", "http://"+pod.Status.PodIP+":8080/host/proc/sys/kernel/random/boot_id")
		if want := node.Status.NodeInfo.BootID; err != nil || strings.TrimSpace(out) != want || want == "" {
			t.Errorf("the pod on %s reads boot %q, its Node says %q: %v", node.Name, out, want, err)
		}
		if want := "aws:///" + node.Labels[corev1.LabelTopologyZone] + "/i-"; !strings.HasPrefix(node.Spec.ProviderID, want) {
			t.Errorf("provider ID of %s is %q, want %s...", node.Name, node.Spec.ProviderID, want)
		}
		seen[node.Status.NodeInfo.BootID] = true
	}
	if len(seen) != len(pods) {
		t.Errorf("%d pods on %d nodes see %d boots", len(pods), len(pods), len(seen))
	}
}

func checkLogs(ctx context.Context, t *testing.T, c *lab.Cluster, pod corev1.Pod) {
	text, err := c.Client().CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil || !strings.Contains(string(text), "serving") {
		t.Errorf("log of %s is %q, %v", pod.Name, text, err)
	}
}

// checkSource asks the API server for something, once from the node's own address and once
// from one that is no node's.
func checkSource(ctx context.Context, t *testing.T, c *lab.Cluster) {
	if _, err := c.Exec(ctx, "node-1", "ip", "address", "add", "10.0.99.99/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	ask := func(source string) error {
		_, err := c.Exec(ctx, "node-1", "curl", "-sSk", "--max-time", "2", "--interface", source, "https://10.0.0.2:6443/livez")
		return err
	}
	if err := ask("10.0.1.10"); err != nil {
		t.Errorf("asking from the node's address: %v", err)
	}
	if err := ask("10.0.99.99"); err == nil {
		t.Error("a packet from an address that belongs to nobody was answered")
	}
}

func checkReplace(ctx context.Context, t *testing.T, c *lab.Cluster, old lab.Host) {
	cordon := []byte(`{"spec": {"unschedulable": true}}`)
	if _, err := c.Client().CoreV1().Nodes().Patch(ctx, old.Name, types.MergePatchType, cordon, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	drained := metav1.ListOptions{FieldSelector: "spec.nodeName=" + old.Name}
	if err := c.Client().CoreV1().Pods("default").DeleteCollection(ctx, metav1.DeleteOptions{}, drained); err != nil {
		t.Fatal(err)
	}
	fresh, err := c.Replace(ctx, old.Name, lab.NodeOptions{Labels: map[string]string{"example.com/generation": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Name == old.Name || fresh.Instance.ID == old.Instance.ID || fresh.Instance.Zone != old.Instance.Zone {
		t.Errorf("%s (%s, %s) was replaced by %s (%s, %s)", old.Name, old.Instance.ID, old.Instance.Zone, fresh.Name, fresh.Instance.ID, fresh.Instance.Zone)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", old.PID)); err == nil {
		t.Errorf("the first process of terminated %s is still there", old.Name)
	}
	writeConflist(ctx, t, c, fresh)
	if err := c.WaitReady(ctx, fresh.Name); err != nil {
		t.Fatal(err)
	}
	for _, pod := range running(ctx, t, c) {
		if pod.Spec.NodeName == old.Name {
			t.Errorf("%s still runs on %s", pod.Name, old.Name)
		}
		if _, err := c.Exec(ctx, lab.Client, "curl", "-sS", "--max-time", "5", "http://"+pod.Status.PodIP+":8080/"); err != nil {
			t.Error(err)
		}
	}
	list, err := c.Client().CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "example.com/generation=2"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != fresh.Name {
		t.Errorf("nodes with the new label: %d, %v; want %s alone", len(list.Items), err, fresh.Name)
	}
}

// hello builds the test's image.
func hello(t *testing.T) string {
	t.Helper()
	program, archive := filepath.Join(t.TempDir(), "hello"), filepath.Join(t.TempDir(), "hello.tar")
	build := exec.Command("go", "build", "-o", program, "./testdata/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the test's workload: %v: %s", err, out)
	}
	made := image.Image{Ref: "lab/hello:test", Files: []image.File{{Path: "/hello", Source: program}}, Entrypoint: []string{"/hello"}}
	if err := image.WriteFile(archive, made); err != nil {
		t.Fatal(err)
	}
	return archive
}

func poll(ctx context.Context, t *testing.T, what string, done func() (string, bool)) {
	t.Helper()
	for {
		state, ok := done()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %s", what, state)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func deadline(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a lab makes namespaces and mounts: run as root")
	}
	if testing.Short() {
		t.Skip("starts a cluster")
	}
}
