// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// byENI is what the kernel says of the pod on the secondary ENI without AWS_EXTERNAL_SERVICE_CIDRS (measured, with a mark or not).
func byENI(marked int) func(*facts.Facts) {
	return func(f *facts.Facts) {
		for i := range f.Paths.List {
			if p := &f.Paths.List[i]; p.Iif == ixENIPodB {
				p.Oif, p.Table, p.Matched, p.MarkedOif = ixENI, 2, cidr("0.0.0.0/0"), marked
			}
		}
	}
}

func TestLegacyPaths(t *testing.T) {
	refuse := func(f *facts.Facts) { f.Paths.List[2].Oif, f.Paths.List[2].Refused = 0, "no route to host" }
	unseen := func(f *facts.Facts) { f.Paths.List = f.Paths.List[:1] }
	tell(t, v1alpha1.CheckOverlayRoutes, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"as it should be":                 {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a Service leaves by the ENI":     {byENI(ixHost), v1alpha1.VerdictFail, v1alpha1.LegacyPodAstray},
		"everything leaves by the ENI":    {byENI(ixENI), v1alpha1.VerdictFail, v1alpha1.LegacyPodAstray},
		"one of two pod CIDRs leaves":     {func(f *facts.Facts) { f.Paths.List[3].Oif = ixENI }, v1alpha1.VerdictFail, v1alpha1.LegacyPodAstray},
		"the kernel refuses":              {refuse, v1alpha1.VerdictFail, v1alpha1.LegacyPodRefused},
		"astray tells more than refused":  {all(refuse, byENI(ixHost)), v1alpha1.VerdictFail, v1alpha1.LegacyPodAstray},
		"a pod without a route":           {unseen, v1alpha1.VerdictUnknown, v1alpha1.LegacyPodUnseen},
		"a pod that ends without a route": {all(unseen, func(f *facts.Facts) { f.Pods.List[1].Terminating = true }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod that has ended leaves":     {all(byENI(ixHost), func(f *facts.Facts) { f.Pods.List[1].Finished = true }), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"somebody else's veth leaves": {func(f *facts.Facts) {
			f.Paths.List = append(f.Paths.List, facts.Path{Pod: ip("172.17.0.2"), Oif: ixNIC})
		}, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a peer's route missing is told first": {all(byENI(ixHost), loseRoute("10.244.2.0/24")), v1alpha1.VerdictFail, v1alpha1.RouteMissing},
		"forwarding is off":                    {func(f *facts.Facts) { f.Forwarding.On = false }, v1alpha1.VerdictFail, v1alpha1.ForwardingOff},
		"a strict source check":                {func(f *facts.Facts) { f.Forwarding.RPFilter[tunnelLink] = 1 }, v1alpha1.VerdictWarn, v1alpha1.SourceCheckStrict},
		"a loose source check":                 {func(f *facts.Facts) { f.Forwarding.RPFilter[tunnelLink] = 2 }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
	tell(t, v1alpha1.CheckOverlayRoutes, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"no pod of the VPC CNI": {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}

func TestAPodThatGoesAstrayIsNamedWithItsCure(t *testing.T) {
	f := legacyNode()
	byENI(ixHost)(f)
	x := find(t, Judge(f, v1alpha1.RoleLegacy, nil), v1alpha1.CheckOverlayRoutes)
	for _, want := range []string{"default/b (10.0.1.30)", "ens6", "table 2", "0.0.0.0/0", "ping", "AWS_EXTERNAL_SERVICE_CIDRS", "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"} {
		if !strings.Contains(x.Message, want) {
			t.Errorf("%q is not in: %s", want, x.Message)
		}
	}
	if strings.Contains(x.Message, "default/a") {
		t.Errorf("the pod on the primary ENI is named too: %s", x.Message)
	}
	f = legacyNode()
	byENI(ixENI)(f)
	if x := find(t, Judge(f, v1alpha1.RoleLegacy, nil), v1alpha1.CheckOverlayRoutes); strings.Contains(x.Message, "ping") {
		t.Errorf("a ping is said to pass, which leaves by the ENI too: %s", x.Message)
	}
}
