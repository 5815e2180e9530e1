// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

func TestConflist(t *testing.T) {
	files := func(list ...string) func(*facts.Facts) {
		return func(f *facts.Facts) { f.ConfDir = dir(list...) }
	}
	shared := func(list ...string) func(*facts.Facts) {
		return func(f *facts.Facts) { f.ConfDir, f.Settings.Install = dir(list...), v1alpha1.InstallShared }
	}
	tell(t, v1alpha1.CheckConflist, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"Cilium alone":               {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the VPC CNI":                {files("10-aws.conflist", awsConf), v1alpha1.VerdictFail, v1alpha1.ConflistWrongCNI},
		"Cilium sorts after":         {files("10-aws.conflist", awsConf, "20-cilium.conflist", ciliumConf), v1alpha1.VerdictFail, v1alpha1.ConflistWrongCNI},
		"something behind it":        {files("05-cilium.conflist", ciliumConf, "10-aws.conflist", awsConf), v1alpha1.VerdictWarn, v1alpha1.ConflistLeftovers},
		"set aside by Cilium":        {files("05-cilium.conflist", ciliumConf, "10-aws.conflist.cilium_bak", awsConf), v1alpha1.VerdictWarn, v1alpha1.ConflistSetAside},
		"a backup of somebody's":     {files("05-cilium.conflist", ciliumConf, "10-aws.conflist.orig", awsConf), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"chained":                    {files("05-cilium.conflist", chainedConf), v1alpha1.VerdictFail, v1alpha1.ConflistChained},
		"another CNI first":          {files("01-calico.conflist", calicoConf, "05-cilium.conflist", ciliumConf), v1alpha1.VerdictFail, v1alpha1.ConflistForeignFirst},
		"a broken file first":        {files("01-x.conflist", "{", "05-cilium.conflist", ciliumConf), v1alpha1.VerdictFail, v1alpha1.ConflistBroken},
		"empty":                      {files(), v1alpha1.VerdictFail, v1alpha1.ConflistNone},
		"no directory":               {func(f *facts.Facts) { f.ConfDir = cniconf.Directory{Listing: cniconf.NoDirectory} }, v1alpha1.VerdictFail, v1alpha1.ConflistNone},
		"a directory that changes":   {func(f *facts.Facts) { f.ConfDir = cniconf.Directory{Listing: cniconf.Changing} }, v1alpha1.VerdictUnknown, v1alpha1.ConflistUnreadable},
		"a directory nobody read":    {func(f *facts.Facts) { f.ConfDir = cniconf.Directory{} }, v1alpha1.VerdictUnknown, v1alpha1.ConflistUnreadable},
		"a first file out of bounds": {func(f *facts.Facts) { f.ConfDir.Entries[0].Problem = cniconf.Outside }, v1alpha1.VerdictUnknown, v1alpha1.ConflistUnreadable},
	})
	tell(t, v1alpha1.CheckConflist, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"the VPC CNI alone":            {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"Cilium wins":                  {files("05-cilium.conflist", ciliumConf, "10-aws.conflist", awsConf), v1alpha1.VerdictFail, v1alpha1.ConflistWrongCNI},
		"Cilium lies behind":           {files("10-aws.conflist", awsConf, "20-cilium.conflist", ciliumConf), v1alpha1.VerdictWarn, v1alpha1.ConflistLeftovers},
		"set aside and back again":     {files("10-aws.conflist", awsConf, "10-aws.conflist.cilium_bak", awsConf), v1alpha1.VerdictWarn, v1alpha1.ConflistSetAside},
		"shared: Cilium wins":          {shared("05-cilium.conflist", ciliumConf, "10-aws.conflist", awsConf), v1alpha1.VerdictPass, v1alpha1.ConflistSharedWindow},
		"shared: before Cilium writes": {shared("10-aws.conflist", awsConf), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"chained":                      {files("05-cilium.conflist", chainedConf), v1alpha1.VerdictFail, v1alpha1.ConflistChained},
	})
	tell(t, v1alpha1.CheckConflist, v1alpha1.RoleMixed, overlayNode, map[string]tale{
		"judged as an Overlay node": {files("10-aws.conflist", awsConf), v1alpha1.VerdictFail, v1alpha1.ConflistWrongCNI},
	})
}
