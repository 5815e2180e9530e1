// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// maxSilence is how old the liveness may be. A live agent rewrites it every second (Cilium pkg/maps/configmap); five
// leave room for a loaded node.
const maxSilence = 5 * time.Second

// ciliumAlive asks whether the owner of the datapath is alive now. Pods go on working without it, and nothing new does.
func ciliumAlive(s *scene) v1alpha1.Finding {
	l := s.f.Liveness
	age := l.Now - l.Stamp
	switch {
	case l.Sight == facts.Absent:
		return fail(v1alpha1.CiliumStopped, "Cilium has pinned no liveness on this node: its agent has not run since the boot; see whether its DaemonSet covers this node")
	case l.Sight != facts.Seen:
		return unknown(v1alpha1.CiliumLivenessUnreadable, "the liveness of Cilium's agent could not be read: %s", l.Detail)
	case l.Stamp == 0:
		return fail(v1alpha1.CiliumStopped, "Cilium's agent has never said that it lives: see its pod on this node")
	case age < 0:
		return unknown(v1alpha1.CiliumLivenessUnreadable, "the liveness of Cilium's agent is %s ahead of this host's clock, so it is not what it is taken for", -age)
	}
	evidence := v1alpha1.Evidence{Name: "age", Value: age.Milliseconds(), Unit: "milliseconds"}
	if age > maxSilence {
		return with(fail(v1alpha1.CiliumStopped, "Cilium's agent last said %s ago that it lives, and should every second: see its pod on this node", age.Round(time.Second)), evidence)
	}
	return with(pass(v1alpha1.AsWanted, "Cilium's agent said less than %s ago that it lives", maxSilence), evidence)
}
