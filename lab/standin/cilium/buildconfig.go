// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
)

// buildConfig is the pod's first init container: it resolves the options of this node once and
// writes them where the agent reads them. A restarted container of the pod finds the same ones.
func buildConfig(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("build-config", flag.ContinueOnError)
	dest := flags.String("dest", "/tmp/cilium/config-map", "directory to write to")
	name := flags.String("node", os.Getenv("K8S_NODE_NAME"), "name of the Node object")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	k, err := newKubeCluster(*name)
	if err != nil {
		return err
	}
	var options map[string]string
	var last error
	err = wait.PollUntilContextTimeout(ctx, time.Second, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		options, last = k.options(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("building the configuration of node %s: %w: %w", *name, err, last)
	}
	return writeOptions(*dest, options)
}

// options reads ConfigMap, CiliumNodeConfigs and the Node's labels, now.
func (k *kubeCluster) options(ctx context.Context) (map[string]string, error) {
	node, err := k.core.CoreV1().Nodes().Get(ctx, k.name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the Node: %w", err)
	}
	base, err := k.core.CoreV1().ConfigMaps(systemNamespace).Get(ctx, configMapName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", systemNamespace, configMapName, err)
	}
	list, err := k.dyn.Resource(ciliumNodeConfigs()).Namespace(systemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing CiliumNodeConfigs: %w", err)
	}
	configs := make([]nodeConfig, 0, len(list.Items))
	for i := range list.Items {
		raw, err := list.Items[i].MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("reading CiliumNodeConfig %s: %w", list.Items[i].GetName(), err)
		}
		config, err := parseNodeConfig(raw)
		if err != nil {
			return nil, err
		}
		configs = append(configs, config)
	}
	return resolve(base.Data, labels.Set(node.Labels), configs)
}

// installPlugin is the pod's second init container: it puts this program on the node as cilium-cni.
// The rename replaces a plugin that is being executed.
func installPlugin(args []string) error {
	flags := flag.NewFlagSet("install-cni", flag.ContinueOnError)
	dir := flags.String("dir", "/host/opt/cni/bin", "directory of CNI plugins")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("opening this program: %w", err)
	}
	defer self.Close()
	temp := filepath.Join(*dir, ".cilium-cni.new")
	plugin, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("creating the plugin: %w", err)
	}
	_, err = io.Copy(plugin, self)
	if closeErr := plugin.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(*dir, "cilium-cni"))
	}
	if err != nil {
		return fmt.Errorf("installing the plugin in %s: %w", *dir, err)
	}
	return nil
}
