// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/image"
	"github.com/cni-cutover/cni-cutover/lab/standin/awsnode"
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

// TestVPCCNIInACluster runs the VPC CNI's stand-in with the real kubelet, containerd and
// kube-proxy: a node becomes Ready through it, its pods reach everybody, and neither a roll
// of the DaemonSet nor its end disturbs them.
func TestVPCCNIInACluster(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a lab makes namespaces and mounts: run as root")
	}
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := lab.Start(ctx, lab.Config{Nodes: 2, Images: []string{
		build(t, "lab/standin:dev", "standin", "."),
		build(t, app.Image, "app", "../app/cmd/app"),
	}})
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop()) })

	applyVPCCNI(ctx, t, c)
	must(t, c.WaitReady(ctx))
	pods, service := deployEcho(ctx, t, c)
	for _, node := range []string{"node-1", "node-2"} {
		var primary, secondary int
		for _, pod := range pods {
			switch last := pod.Status.PodIP[strings.LastIndex(pod.Status.PodIP, ".")+1:]; {
			case pod.Spec.NodeName == node && len(last) == 2:
				primary++
			case pod.Spec.NodeName == node:
				secondary++
			}
		}
		if primary != 2 || secondary != 2 {
			t.Errorf("%s has %d pods on its primary and %d on its secondary interface, want 2 and 2", node, primary, secondary)
		}
	}
	t.Run("everybody reaches everybody", func(t *testing.T) { checkPaths(ctx, t, c, pods, service) })
	t.Run("a roll of the DaemonSet applies new settings and disturbs nobody", func(t *testing.T) { checkRoll(ctx, t, c, service) })
	t.Run("everybody still reaches everybody", func(t *testing.T) { checkPaths(ctx, t, c, pods, service) })
	t.Run("pods can be deleted without the daemon", func(t *testing.T) { checkEnd(ctx, t, c) })
}

func build(t *testing.T, ref, name, source string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v: %s", source, err, out)
	}
	archive := filepath.Join(dir, name+".tar")
	must(t, image.WriteFile(archive, image.Image{
		Ref: ref, Files: []image.File{{Path: "/" + name, Source: filepath.Join(dir, name)}}, Entrypoint: []string{"/" + name},
	}))
	return archive
}

func applyVPCCNI(ctx context.Context, t *testing.T, c *lab.Cluster) {
	t.Helper()
	documents := bytes.Split(awsnode.Manifest(), []byte("\n---\n"))
	var account corev1.ServiceAccount
	must(t, yaml.UnmarshalStrict(documents[0], &account))
	_, err := c.Client().CoreV1().ServiceAccounts(account.Namespace).Create(ctx, &account, metav1.CreateOptions{})
	must(t, err)
	var set appsv1.DaemonSet
	must(t, yaml.UnmarshalStrict(documents[1], &set))
	_, err = c.Client().AppsV1().DaemonSets(set.Namespace).Create(ctx, &set, metav1.CreateOptions{})
	must(t, err)
}

// deployEcho runs four pods a node behind a NodePort Service.
func deployEcho(ctx context.Context, t *testing.T, c *lab.Cluster) ([]corev1.Pod, *corev1.Service) {
	t.Helper()
	labels, replicas, grace := map[string]string{"app": "echo"}, int32(8), int64(1)
	_, err := c.Client().AppsV1().Deployments("default").Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "echo"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: &grace,
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
						LabelSelector: &metav1.LabelSelector{MatchLabels: labels},
					}},
					Containers: []corev1.Container{{
						Name: "echo", Image: app.Image, ImagePullPolicy: corev1.PullNever, Args: []string{"--flavour=echo"},
						ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
							HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(8080)},
						}},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	service, err := c.Client().CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "echo"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: labels,
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	must(t, err)
	waitFor(ctx, t, "eight ready pods", func() (string, bool) {
		d, err := c.Client().AppsV1().Deployments("default").Get(ctx, "echo", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%d are ready", d.Status.ReadyReplicas), d.Status.ReadyReplicas == replicas
	})
	list, err := c.Client().CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=echo"})
	must(t, err)
	return list.Items, service
}

// probe asks the URLs in its arguments from each sandbox of a node and from the node
// itself; it prints a line an answer: who asked, the URL, the server's answer.
const probe = `
ask() { for url; do echo "$me $url $($in curl -sS --max-time 5 "$url" 2>&1)"; done; }
me=host in= ; ask "$@"
for netns in /run/netns/*; do
  in="nsenter --net=$netns"
  me=$($in ip -4 -o address show eth0 | sed -E 's#.* inet ([0-9.]+).*#\1#')
  ask "$@"
done`

// checkPaths asks every pod, the Service and both node ports; a pod that is asked at its
// own address sees who asks, because inside the VPC nothing is translated.
func checkPaths(ctx context.Context, t *testing.T, c *lab.Cluster, pods []corev1.Pod, service *corev1.Service) {
	var direct, urls []string
	for _, pod := range pods {
		direct = append(direct, "http://"+pod.Status.PodIP+":8080/")
	}
	urls = slices.Concat(direct, []string{"http://" + service.Spec.ClusterIP + "/"}, nodePorts(service))
	for _, node := range []string{"node-1", "node-2"} {
		out, err := c.Exec(ctx, node, append([]string{"bash", "-c", probe, "probe"}, urls...)...)
		must(t, err)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if want := 5 * len(urls); len(lines) != want { // four pods and the node itself
			t.Errorf("%s asked %d times, want %d", node, len(lines), want)
		}
		for _, line := range lines {
			fields := strings.SplitN(line, " ", 3)
			var answer app.Answer
			if err := json.Unmarshal([]byte(fields[2]), &answer); err != nil {
				t.Errorf("%s: %s got %q from %s", node, fields[0], fields[2], fields[1])
				continue
			}
			if fields[0] != "host" && slices.Contains(direct, fields[1]) && !strings.HasPrefix(answer.Remote, fields[0]) {
				t.Errorf("%s: %s is seen as %s by %s", node, fields[0], answer.Remote, fields[1])
			}
		}
	}
	for _, url := range slices.Concat(direct, nodePorts(service)) {
		if out, err := c.Exec(ctx, lab.Client, "curl", "-sS", "--max-time", "5", url); err != nil {
			t.Errorf("a host of the VPC asked %s: %v: %s", url, err, out)
		}
	}
}

func nodePorts(service *corev1.Service) []string {
	port := service.Spec.Ports[0].NodePort
	return []string{fmt.Sprintf("http://10.0.1.10:%d/", port), fmt.Sprintf("http://10.0.2.10:%d/", port)}
}

// load asks the URLs in its arguments until it is told to stop by a file, and prints how
// many answers came and how many did not.
const load = `
ok=0 bad=0
while [ ! -e /tmp/enough ]; do
  for url; do if curl -s --max-time 5 -o /dev/null "$url"; then ok=$((ok+1)); else bad=$((bad+1)); fi; done
done
echo $ok $bad`

// checkRoll takes away what sends the overlay through the main table.
func checkRoll(ctx context.Context, t *testing.T, c *lab.Cluster, service *corev1.Service) {
	client, err := c.Command(ctx, lab.Client, append([]string{"bash", "-c", load, "load"}, nodePorts(service)...)...)
	must(t, err)
	var counts bytes.Buffer
	client.Stdout = &counts
	must(t, client.Start())

	sets := c.Client().AppsV1().DaemonSets("kube-system")
	set, err := sets.Get(ctx, "aws-node", metav1.GetOptions{})
	must(t, err)
	container := &set.Spec.Template.Spec.Containers[0]
	container.Env = slices.DeleteFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "AWS_EXTERNAL_SERVICE_CIDRS" })
	updated, err := sets.Update(ctx, set, metav1.UpdateOptions{})
	must(t, err)
	waitFor(ctx, t, "the roll of aws-node", func() (string, bool) {
		s, err := sets.Get(ctx, "aws-node", metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		done := s.Status.ObservedGeneration >= updated.Generation && s.Status.UpdatedNumberScheduled == 2 && s.Status.NumberAvailable == 2
		return fmt.Sprintf("%+v", s.Status), done
	})
	for _, node := range []string{"node-1", "node-2"} {
		rules, err := c.Exec(ctx, node, "ip", "rule")
		must(t, err)
		if strings.Contains(rules, "1535:") {
			t.Errorf("%s still has rule 1535:\n%s", node, rules)
		}
	}
	_, err = c.Exec(ctx, lab.Client, "touch", "/tmp/enough")
	must(t, err)
	must(t, client.Wait())
	var ok, bad int
	_, err = fmt.Sscan(counts.String(), &ok, &bad)
	must(t, err)
	if ok == 0 || bad != 0 {
		t.Errorf("during the roll %d requests were answered and %d were not", ok, bad)
	}
}

// checkEnd deletes the DaemonSet and then the pods: DEL works from what ADD printed, and
// the conflist stays.
func checkEnd(ctx context.Context, t *testing.T, c *lab.Cluster) {
	must(t, c.Client().AppsV1().DaemonSets("kube-system").Delete(ctx, "aws-node", metav1.DeleteOptions{}))
	waitFor(ctx, t, "the end of aws-node", none(ctx, c, "kube-system", "k8s-app=aws-node"))
	must(t, c.Client().AppsV1().Deployments("default").Delete(ctx, "echo", metav1.DeleteOptions{}))
	waitFor(ctx, t, "the end of the pods", none(ctx, c, "default", "app=echo"))
	for _, node := range []string{"node-1", "node-2"} {
		waitFor(ctx, t, "the end of the pods' rules on "+node, func() (string, bool) {
			rules, err := c.Exec(ctx, node, "ip", "rule")
			return rules, err == nil && !strings.Contains(rules, "512:") && !strings.Contains(rules, "1536:")
		})
		files, err := c.Exec(ctx, node, "ls", "/etc/cni/net.d")
		must(t, err)
		if !strings.Contains(files, awsnode.Conflist) {
			t.Errorf("net.d of %s holds %q without %s", node, files, awsnode.Conflist)
		}
	}
}

func none(ctx context.Context, c *lab.Cluster, namespace, selector string) func() (string, bool) {
	return func() (string, bool) {
		list, err := c.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err.Error(), false
		}
		return fmt.Sprintf("%d pods are there", len(list.Items)), len(list.Items) == 0
	}
}

func waitFor(ctx context.Context, t *testing.T, what string, done func() (string, bool)) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		state, ok := done()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %s", what, state)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
