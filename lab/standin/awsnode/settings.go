// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Environment variables of the aws-node container, as amazon-vpc-cni-k8s documents them.
const (
	envExternalSNAT         = "AWS_VPC_K8S_CNI_EXTERNALSNAT"
	envExcludeSNATCIDRs     = "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"
	envExternalServiceCIDRs = "AWS_EXTERNAL_SERVICE_CIDRS"
	envVethPrefix           = "AWS_VPC_K8S_CNI_VETHPREFIX"
	envENIMTU               = "AWS_VPC_ENI_MTU"
	envPodMTU               = "POD_MTU"
)

const (
	defaultVethPrefix = "eni"
	defaultMTU        = 9001 // bytes, the largest frame inside a VPC
	minimumMTU        = 576  // bytes, RFC 791
)

// Settings is what the environment of the aws-node container asks for.
type Settings struct {
	ExternalSNAT         bool           // somebody else translates sources: no SNAT chain, no connmark
	ExcludeSNATCIDRs     []netip.Prefix // destinations that keep the pod's source address
	ExternalServiceCIDRs []netip.Prefix // destinations that always use the main routing table
	VethPrefix           string         // of the host's side of a pod's veth pair
	ENIMTU               int            // bytes
	PodMTU               int            // bytes
}

// SettingsFrom reads the settings through getenv (os.Getenv). Unlike the original, which
// logs a bad value and goes on with the default, it refuses one: in a lab it is a mistake.
func SettingsFrom(getenv func(string) string) (Settings, error) {
	s := Settings{VethPrefix: defaultVethPrefix, ENIMTU: defaultMTU}
	var err error
	if value := getenv(envExternalSNAT); value != "" {
		if s.ExternalSNAT, err = strconv.ParseBool(value); err != nil {
			return Settings{}, fmt.Errorf("reading %s=%q: want true or false", envExternalSNAT, value)
		}
	}
	if s.ExcludeSNATCIDRs, err = cidrs(getenv, envExcludeSNATCIDRs); err != nil {
		return Settings{}, err
	}
	if s.ExternalServiceCIDRs, err = cidrs(getenv, envExternalServiceCIDRs); err != nil {
		return Settings{}, err
	}
	if value := getenv(envVethPrefix); value != "" {
		if len(value) > 4 { // 4 + 11 characters of the hash fill an interface name
			return Settings{}, fmt.Errorf("reading %s=%q: want at most 4 characters", envVethPrefix, value)
		}
		s.VethPrefix = value
	}
	if s.ENIMTU, err = mtu(getenv, envENIMTU, defaultMTU); err != nil {
		return Settings{}, err
	}
	if s.PodMTU, err = mtu(getenv, envPodMTU, s.ENIMTU); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// cidrs splits a comma-separated list; an entry is masked to its network, a repeated one kept once.
func cidrs(getenv func(string) string, name string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for entry := range strings.SplitSeq(getenv(name), ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(entry)
		if err != nil || !prefix.Addr().Is4() {
			return nil, fmt.Errorf("reading %s: %q is not an IPv4 CIDR such as 10.244.0.0/16", name, entry)
		}
		if prefix = prefix.Masked(); !slices.Contains(list, prefix) {
			list = append(list, prefix)
		}
	}
	return list, nil
}

func mtu(getenv func(string) string, name string, fallback int) (int, error) {
	value := getenv(name)
	if value == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < minimumMTU || n > defaultMTU {
		return 0, fmt.Errorf("reading %s=%q: want a number of bytes from %d to %d", name, value, minimumMTU, defaultMTU)
	}
	return n, nil
}
