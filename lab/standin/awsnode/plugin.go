// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// pluginConf is the part of the conflist that the plugin reads.
type pluginConf struct {
	types.PluginConf
	VethPrefix    string `json:"vethPrefix"`
	MTU           string `json:"mtu"`
	PluginLogFile string `json:"pluginLogFile"`
}

// podArgs are the runtime's arguments that name the pod.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAME      types.UnmarshallableString
	K8S_POD_NAMESPACE types.UnmarshallableString
}

// CNI is the aws-cni plugin: it serves the one command that the environment names and ends
// the process if that fails.
func CNI() {
	runtime.LockOSThread() // the plugin enters network namespaces
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:   logged("ADD", add),
		Del:   logged("DEL", del),
		Check: func(*skel.CmdArgs) error { return nil }, // the conflist says disableCheck
	}, version.All, "AWS CNI stand-in")
}

// EgressCNI is the egress-cni plugin as an IPv4 cluster has it: present, switched off,
// passing on the result of the plugin before it.
func EgressCNI() {
	nothing := func(*skel.CmdArgs) error { return nil }
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: func(args *skel.CmdArgs) error {
			conf, err := parseConf(args.StdinData)
			if err != nil {
				return err
			}
			if conf.PrevResult == nil {
				return errors.New("reading the configuration of egress-cni: no prevResult: it belongs behind aws-cni in a conflist")
			}
			return types.PrintResult(conf.PrevResult, conf.CNIVersion)
		},
		Del: nothing, Check: nothing,
	}, version.All, "egress CNI stand-in")
}

func parseConf(data []byte) (pluginConf, error) {
	conf := pluginConf{VethPrefix: defaultVethPrefix, MTU: strconv.Itoa(defaultMTU)}
	if err := json.Unmarshal(data, &conf); err != nil {
		return pluginConf{}, fmt.Errorf("reading the plugin's configuration: %w", err)
	}
	if err := version.ParsePrevResult(&conf.PluginConf); err != nil {
		return pluginConf{}, fmt.Errorf("reading the result of the plugin before: %w", err)
	}
	return conf, nil
}

// parse names the pod and its sandbox.
func parse(args *skel.CmdArgs) (pluginConf, request, error) {
	conf, err := parseConf(args.StdinData)
	if err != nil {
		return pluginConf{}, request{}, err
	}
	var names podArgs
	if err := types.LoadArgs(args.Args, &names); err != nil {
		return pluginConf{}, request{}, fmt.Errorf("reading CNI_ARGS: %w", err)
	}
	if names.K8S_POD_NAME == "" || names.K8S_POD_NAMESPACE == "" {
		return pluginConf{}, request{}, fmt.Errorf("reading CNI_ARGS %q: K8S_POD_NAME or K8S_POD_NAMESPACE is missing", args.Args)
	}
	return conf, request{
		sandbox: sandbox{NetworkName: conf.Name, ContainerID: args.ContainerID, IfName: args.IfName},
		Pod:     podName{Namespace: string(names.K8S_POD_NAMESPACE), Name: string(names.K8S_POD_NAME)},
	}, nil
}

func socketPath() string { return filepath.Join(RunDir, SocketFile) }

func add(args *skel.CmdArgs) error {
	conf, req, err := parse(args)
	if err != nil {
		return err
	}
	mtu, err := strconv.Atoi(conf.MTU)
	if err != nil || mtu < minimumMTU || mtu > defaultMTU {
		mtu = defaultMTU // as the original does
	}
	ipam := newClient(socketPath())
	assigned, err := ipam.call("assign", req)
	if err != nil {
		return fmt.Errorf("assigning an IP address to container: %w", err)
	}
	pod := podNet{
		ip: assigned.IP, table: routingTable(assigned.DeviceNumber), mtu: mtu,
		hostSide: hostVeth(conf.VethPrefix, req.Pod), podSide: args.IfName, netns: args.Netns,
	}
	if err := pod.setup(); err != nil {
		err = errors.Join(err, unroutePod(pod.ip, pod.table))
		_, release := ipam.call("release", req)
		return errors.Join(err, release)
	}
	podSide := 1 // index of the pod's interface in the list
	return types.PrintResult(&current.Result{
		Interfaces: []*current.Interface{
			{Name: pod.hostSide},
			{Name: pod.podSide, Sandbox: args.Netns},
			// Exists nowhere: it tells a later DEL, when ipamd is gone, which table to clear.
			{Name: hostVeth("dummy", req.Pod), Mac: "0", Sandbox: strconv.Itoa(assigned.DeviceNumber)},
		},
		IPs: []*current.IPConfig{{Interface: &podSide, Address: *single(pod.ip)}},
	}, conf.CNIVersion)
}

// del removes the pod's rules before it gives the address back: in the other order the
// next pod could already have it. What is gone already is no error. When ipamd does not
// answer, prevResult tells what to remove; the address is taken back at ipamd's next start.
func del(args *skel.CmdArgs) error {
	conf, req, err := parse(args)
	if err != nil {
		return err
	}
	ipam := newClient(socketPath())
	assigned, err := ipam.call("lookup", req)
	switch {
	case errors.Is(err, errUnknownSandbox):
		return nil
	case err != nil:
		remembered, found := fromResult(conf.PrevResult, req.Pod, args.IfName)
		if !found {
			return nil // an error would only keep the runtime from freeing the sandbox
		}
		return unroutePod(remembered.IP, routingTable(remembered.DeviceNumber))
	}
	if err := unroutePod(assigned.IP, routingTable(assigned.DeviceNumber)); err != nil {
		return err
	}
	if _, err := ipam.call("release", req); err != nil && !errors.Is(err, errUnknownSandbox) {
		return fmt.Errorf("giving back %s: %w", assigned.IP, err)
	}
	return nil
}

// fromResult reads what add printed.
func fromResult(previous types.Result, pod podName, ifName string) (address, bool) {
	if previous == nil {
		return address{}, false
	}
	result, err := current.NewResultFromResult(previous)
	if err != nil {
		return address{}, false
	}
	found := address{DeviceNumber: -1}
	for index, link := range result.Interfaces {
		switch link.Name {
		case hostVeth("dummy", pod):
			if found.DeviceNumber, err = strconv.Atoi(link.Sandbox); err != nil {
				return address{}, false
			}
		case ifName:
			for _, config := range result.IPs {
				if config.Interface != nil && *config.Interface == index {
					found.IP, _ = netip.AddrFromSlice(config.Address.IP.To4())
				}
			}
		}
	}
	return found, found.DeviceNumber >= 0 && found.IP.Is4()
}

// logged writes one line a call to the plugin's log; a log that can't be written stops no pod.
func logged(name string, call func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		err := call(args)
		conf, parseErr := parseConf(args.StdinData)
		if parseErr != nil || !strings.HasPrefix(conf.PluginLogFile, "/") {
			return err
		}
		file, openErr := openLog(conf.PluginLogFile)
		if openErr != nil {
			return err
		}
		defer file.Close()
		slog.New(slog.NewTextHandler(file, nil)).Info(name, "sandbox", args.ContainerID, "netns", args.Netns, "args", args.Args, "error", err)
		return err
	}
}
