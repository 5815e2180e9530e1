// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package values

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/vpccni"
)

// option is one key of cilium-config and the Helm value that it is made from (install/kubernetes/cilium/templates/
// cilium-configmap.yaml, 1.18.11 to 1.20.2).
type option struct {
	key, path string
	// absent is what the agent or the operator does without the key.
	absent any
}

func options() []option {
	return []option{
		{"kube-proxy-replacement", "kubeProxyReplacement", "false"},
		{"enable-bpf-masquerade", "bpf.masquerade", "false"},
		{"enable-host-legacy-routing", "bpf.hostLegacyRouting", nil},
		{"enable-node-port", "nodePort.enabled", nil},
		{"enable-ipv4-masquerade", "enableIPv4Masquerade", nil},
		{"enable-ipv6", "ipv6.enabled", "false"},
		{"routing-mode", "routingMode", ""},
		{"tunnel-protocol", "tunnelProtocol", ""},
		{"tunnel-port", "tunnelPort", "0"},
		{"auto-direct-node-routes", "autoDirectNodeRoutes", "false"},
		{"bpf-lb-mode", "loadBalancer.mode", nil},
		{"mtu", "MTU", "0"},
		{"ipam", "ipam.mode", "cluster-pool"},
		{"cluster-pool-ipv4-cidr", "ipam.operator.clusterPoolIPv4PodCIDRList", ""},
		{"cluster-pool-ipv4-mask-size", "ipam.operator.clusterPoolIPv4MaskSize", "24"},
		{"custom-cni-conf", "cni.customConf", "false"},
		{"cni-exclusive", "cni.exclusive", "false"}, // left out with customConf, and then nothing obeys it
		{"cni-uninstall", "cni.uninstall", "false"},
		{"cni-chaining-mode", "cni.chainingMode", nil},
		{"read-cni-conf", "cni.configMap", ""},
		{"ipv4-native-routing-cidr", "ipv4NativeRoutingCIDR", nil},
		{"egress-masquerade-interfaces", "egressMasqueradeInterfaces", nil},
		{"enable-policy", "policyEnforcementMode", "default"},
		{"remove-cilium-node-taints", "operator.removeNodeTaints", "false"},
		{"set-cilium-node-taints", "operator.setNodeTaints", "false"},
		{"enable-hubble", "hubble.enabled", "false"},
	}
}

// watcherInterval is "0" where the watcher of unmanaged pods is off.
const watcherInterval = "unmanaged-pod-watcher-interval"

// watches says whether an interval is one: 15, 15s, but not 0 or 0s.
func watches(interval string) bool { return strings.Trim(interval, "0smh") != "" }

// overridden returns the values with options of the agent in the place of those that they come from.
func (v *Values) overridden(config map[string]string) *Values {
	out := v
	for _, o := range options() {
		if value, ok := config[o.key]; ok {
			out = out.with(o.path, value)
		}
	}
	return out
}

// FromCluster reads the values back from what Cilium's chart makes of them: the ConfigMap cilium-config and, for what is not
// in there, the agent's DaemonSet. A DaemonSet that is nil was not seen, and what stands in it alone is Unknown.
func FromCluster(config *corev1.ConfigMap, ds *appsv1.DaemonSet, v Version) *Values {
	out := &Values{
		Origin: fmt.Sprintf("ConfigMap %s/%s", config.Namespace, config.Name), Version: v,
		set: map[string]any{}, defaults: map[string]any{"cni.install": "true"}, hidden: map[string]bool{},
	}
	for _, o := range options() {
		if value, ok := config.Data[o.key]; ok {
			out.set[o.path] = value
		} else if o.absent != nil {
			out.defaults[o.path] = o.absent
		}
	}
	interval, ok := config.Data[watcherInterval]
	out.set["operator.unmanagedPodWatcher.restart"] = !ok || watches(interval)
	if ds == nil {
		for _, path := range []string{"cni.iptablesRemoveAWSRules", "k8sServiceHost", "k8sServicePort"} {
			out.hidden[path] = true
		}
		return out
	}
	out.Origin += fmt.Sprintf(" and DaemonSet %s/%s", ds.Namespace, ds.Name)
	for i := range ds.Spec.Template.Spec.Containers {
		if c := &ds.Spec.Template.Spec.Containers[i]; c.Name == "cilium-agent" {
			out.fromAgent(c)
		}
	}
	return out
}

// fromAgent reads what stands in the agent's container alone.
func (v *Values) fromAgent(c *corev1.Container) {
	v.set["cni.iptablesRemoveAWSRules"] = vpccni.StripsRules(c)
	args := make([]any, len(c.Args))
	for i := range c.Args {
		args[i] = c.Args[i]
	}
	v.set["extraArgs"] = args
	for _, e := range c.Env {
		switch {
		case e.Name == "KUBERNETES_SERVICE_HOST" && e.ValueFrom != nil:
			v.set["k8sServiceHostRef.name"] = "the agent's DaemonSet"
		case e.Name == "KUBERNETES_SERVICE_HOST":
			v.set["k8sServiceHost"] = e.Value
		case e.Name == "KUBERNETES_SERVICE_PORT":
			v.set["k8sServicePort"] = e.Value
		}
	}
	if v.Version == (Version{}) {
		v.Version = versionOf(c.Image)
	}
}

// versionOf reads the version from an image of Cilium's; zero if it does not show one.
func versionOf(image string) Version {
	image, _, _ = strings.Cut(image, "@")
	i := strings.LastIndex(image, ":")
	if i < 0 || strings.Contains(image[i:], "/") {
		return Version{}
	}
	v, err := ParseVersion(image[i+1:])
	if err != nil {
		return Version{}
	}
	return v
}

// maxRelease is more than a release can be: etcd refuses objects of 1.5 MiB, and text packs tenfold.
const maxRelease = 64 << 20

// FromRelease reads the values of a Helm release from its Secret (type helm.sh/release.v1; helm.sh/helm/v3
// pkg/storage/driver/util.go): base64 of gzip of JSON. What the chart sets by default is in there too.
func FromRelease(secret *corev1.Secret) (*Values, error) {
	fail := func(err error) (*Values, error) {
		return nil, fmt.Errorf("reading the Helm release in Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	packed, err := base64.StdEncoding.DecodeString(string(secret.Data["release"]))
	if err != nil {
		return fail(err)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fail(err)
	}
	plain, err := io.ReadAll(io.LimitReader(unzip, maxRelease))
	if err != nil {
		return fail(err)
	}
	var release struct {
		Name   string
		Config map[string]any
		Chart  struct {
			Metadata struct{ Name, Version string }
			Values   map[string]any
		}
		Version int
	}
	if err := json.Unmarshal(plain, &release); err != nil {
		return fail(err)
	}
	if release.Chart.Metadata.Name != "cilium" {
		return fail(fmt.Errorf("its chart is %q, not cilium", release.Chart.Metadata.Name))
	}
	v, err := ParseVersion(release.Chart.Metadata.Version)
	if err != nil {
		return fail(err)
	}
	out := fromMap(fmt.Sprintf("Helm release %s/%s, revision %d", secret.Namespace, release.Name, release.Version), release.Config, v)
	if len(release.Chart.Values) > 0 {
		out.defaults = map[string]any{}
		flatten(out.defaults, "", release.Chart.Values)
	}
	return out, nil
}
