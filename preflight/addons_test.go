// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

func TestWhoOwnsWhatTheMoveRemovesIsSaid(t *testing.T) {
	const check = "AddOns"
	legacy := func(change func(*AddOn)) func(*Snapshot) { return func(s *Snapshot) { change(&s.AWS.AddOns[0]) } }
	for name, e := range map[string]expectation{
		"one of each":   {check, func(*Snapshot) {}, v1alpha1.VerdictPass, []string{"vpc-cni is EKS' add-on (v1.23.2), kube-proxy is the cluster's own"}, nil},
		"one that ails": {check, legacy(func(a *AddOn) { a.Status, a.Issues = "DELETE_FAILED", []string{"InternalFailure: no"} }), v1alpha1.VerdictWarn, []string{"vpc-cni is DELETE_FAILED", "InternalFailure: no"}, []string{"--query addon.health"}},
		"the DaemonSet has what the add-on lacks": {check, legacy(func(a *AddOn) {
			a.Configuration = `{"env":{"AWS_EXTERNAL_SERVICE_CIDRS":"192.168.0.0/16"},"resources":{"limits":{"cpu":1.5}}}`
		}), v1alpha1.VerdictWarn,
			[]string{"AWS_EXTERNAL_SERVICE_CIDRS and AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS, and the add-on's configuration has not"},
			[]string{`'{"env":{"AWS_EXTERNAL_SERVICE_CIDRS":"192.168.0.0/16,10.244.0.0/16","AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS":"10.244.0.0/16"},"resources":{"limits":{"cpu":1.5}}}'`}},
		"a configuration that is none": {check, legacy(func(a *AddOn) { a.Configuration = `{"env":["a"]}` }), v1alpha1.VerdictUnknown, []string{"was not understood"}, nil},
		"not seen":                     {check, func(s *Snapshot) { s.AWS.AddOns = nil; denied("eks:DescribeAddon")(s) }, v1alpha1.VerdictUnknown, []string{"eks:DescribeAddon"}, nil},
	} {
		t.Run(name, e.holdAsked)
	}
}

// TestTheCureHoldsTheWholeConfiguration, as EKS replaces what it was given before.
func TestTheCureHoldsTheWholeConfiguration(t *testing.T) {
	const check = "LegacySettings"
	given := func(configuration string) func(*Snapshot) {
		return func(s *Snapshot) {
			s.Network.Legacy.Settings = vpccni.Settings{}
			s.AWS.AddOns[0].Configuration = configuration
		}
	}
	const both = `"AWS_EXTERNAL_SERVICE_CIDRS":"10.244.0.0/16","AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS":"10.244.0.0/16"`
	for name, e := range map[string]expectation{
		"nothing was given":             {check, given(""), v1alpha1.VerdictFail, nil, []string{"aws eks update-addon --cluster-name shop --addon-name vpc-cni --resolve-conflicts PRESERVE --configuration-values '{\"env\":{" + both + "}}'"}},
		"JSON":                          {check, given(`{"enableNetworkPolicy":"true","env":{"A":"<b>"}}`), v1alpha1.VerdictFail, nil, []string{`'{"enableNetworkPolicy":"true","env":{"A":"<b>",` + both + `}}'`}},
		"YAML":                          {check, given("env:\n  A: \"it's\"\ninit:\n  env: {}\n"), v1alpha1.VerdictFail, nil, []string{`"A":"it'\''s",` + both + `},"init":{"env":{}}}'`}},
		"what cannot be read is asked":  {check, given("[1]"), v1alpha1.VerdictFail, nil, []string{"values=$(aws eks describe-addon --cluster-name shop", `.env += {` + both + `}`}},
		"an add-on that was given up":   {check, func(s *Snapshot) { given("")(s); s.AWS.AddOns[0] = AddOn{Name: addOnLegacy} }, v1alpha1.VerdictFail, nil, []string{"kubectl -n kube-system set env daemonset/aws-node -c aws-node AWS_EXTERNAL_SERVICE_CIDRS=10.244.0.0/16 "}},
		"one that nobody could ask for": {check, func(s *Snapshot) { given("")(s); s.AWS.AddOns = nil }, v1alpha1.VerdictFail, nil, []string{"values=$(aws eks describe-addon --cluster-name shop"}},
		"without AWS, what fields say":  {check, func(s *Snapshot) { given("")(s); s.AWS = nil }, v1alpha1.VerdictFail, nil, []string{"values=$(aws eks describe-addon --cluster-name shop"}},
		"policies are switched off there": {"Policies", func(s *Snapshot) {
			s.Network.Legacy.Policies, s.Network.NetworkPolicies = true, 1
			s.AWS.AddOns[0].Configuration = `{"env":{"A":"b"}}`
		}, v1alpha1.VerdictFail, nil,
			[]string{`'{"enableNetworkPolicy":"false","env":{"A":"b","NETWORK_POLICY_ENFORCING_MODE":"standard"}}'`}},
	} {
		t.Run(name, e.holdAsked)
	}
}

// FuzzConfigured: whatever EKS was given, the command's value is JSON that keeps it and has the setting, or there is none.
func FuzzConfigured(f *testing.F) {
	for _, given := range []string{"", "null", "{}", `{"env":{"A":"1"}}`, "env:\n  A: b\n", `{"env":null}`, `{"a":9007199254740993}`, "[1]", "a: &x {b: *x}"} {
		f.Add(given)
	}
	f.Fuzz(func(t *testing.T, given string) {
		got, err := configured(given, nil, []setting{{vpccni.EnvExternalServiceCIDRs, "10.244.0.0/16"}})
		if err != nil {
			return
		}
		var v struct{ Env map[string]any }
		if err := json.Unmarshal([]byte(got), &v); err != nil || !strings.Contains(text(v.Env[vpccni.EnvExternalServiceCIDRs]), "10.244.0.0/16") && !within(networks([]string{"10.244.0.0/16"})[0], vpccni.Networks(text(v.Env[vpccni.EnvExternalServiceCIDRs]))) {
			t.Errorf("%q became %q: %v", given, got, err)
		}
		if again, err := configured(got, nil, []setting{{vpccni.EnvExternalServiceCIDRs, "10.244.0.0/16"}}); err != nil || again != got {
			t.Errorf("%q became %q, and that %q: %v", given, got, again, err)
		}
	})
}
