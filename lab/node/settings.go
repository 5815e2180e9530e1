// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package node

import "fmt"

// containerdConfig is the same on every node. The project's namespaces have no AppArmor
// profiles, and runc may not lower an OOM score without CAP_SYS_RESOURCE, which a
// container that runs the lab often lacks.
const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "` + socket + `"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + PauseImage + `"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "/etc/cni/net.d"
    bin_dir = "/opt/cni/bin"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// kubeletConfig: the node's status and lease are renewed every two seconds, because the
// lab's controller manager calls a node lost after 12 s of silence. Nothing is evicted for
// want of disk: the disk is a tmpfs, and the memory is the whole machine's.
func kubeletConfig(c Config) []byte {
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
providerID: %s
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %s/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: %s/kubelet.crt
tlsPrivateKeyFile: %s/kubelet.key
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
cgroupDriver: cgroupfs
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
failSwapOn: false
oomScoreAdj: 0
maxPods: %d
podLogsDir: /var/log/pods
volumePluginDir: %s/volume-plugins
staticPodPath: ""
registerNode: true
serializeImagePulls: false
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 30s
syncFrequency: 10s
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", imagefs.available: "0%%"}
shutdownGracePeriod: 0s
logging: {verbosity: 2}
`, socket, ProviderID(c.Instance), credentials, credentials, credentials, c.MaxPods, kubeletDir)
	if c.CgroupV1 {
		config += "failCgroupV1: false\n"
	}
	return []byte(config)
}

// ProxyConfig is kube-proxy's, as the EKS add-on has it: iptables mode, no cluster CIDR, no
// masquerading of everything. The limits of connection tracking belong to the real machine
// and stay as they are.
const ProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: ""
clientConnection: {kubeconfig: ` + credentials + `/kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {masqueradeAll: false, minSyncPeriod: 100ms}
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
`
