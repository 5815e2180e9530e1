// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/lab"
)

// net.d of the lab's nodes, and what strangers and CNIs write there.
const (
	netd         = "/etc/cni/net.d"
	strangerConf = `{"cniVersion":"0.4.0","name":"stranger","plugins":[{"type":"bridge"}]}`
	ciliumConf   = `{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`
	awsConf      = `{"cniVersion":"0.4.0","name":"aws-cni","plugins":[{"type":"aws-cni"}]}`
	awsFile      = "10-aws.conflist"
	ciliumFile   = "05-cilium.conflist"
)

// netdFaults are about net.d of an old node. Nobody puts it right: cni.exclusive is false, and aws-node writes its file when it
// starts and never again.
func netdFaults() []fault {
	const c = v1alpha1.CheckConflist
	return []fault{
		{"Cilium's conflist, of a time without the fence, wins", conflist(ciliumFile, ciliumConf), fails(c, v1alpha1.ConflistWrongCNI), nil},
		{"the first conflist is broken", conflist("01-broken.conflist", `{"cniVersion":"0.4.0","name":`), fails(c, v1alpha1.ConflistBroken), nil},
		{"a stranger's conflist lies behind", conflist("99-stranger.conflist", strangerConf), warns(c, v1alpha1.ConflistLeftovers), nil},
		{"Cilium has set a conflist aside", conflist(awsFile+".cilium_bak", awsConf), warns(c, v1alpha1.ConflistSetAside), nil},
		{"net.d is empty", aside(awsFile), fails(c, v1alpha1.ConflistNone), nil},
		{"net.d cannot be read", unreadable(""), doubts(c, v1alpha1.ConflistUnreadable), nil},
		{"the first conflist cannot be read", unreadable(awsFile), doubts(c, v1alpha1.ConflistUnreadable), nil},
	}
}

// overlayNetdFaults are about net.d of a node that joined behind the fence. There Cilium is exclusive: it sets aside whatever
// appears and writes its own file again, within milliseconds. So all of this can only be seen where Cilium has stopped.
func overlayNetdFaults() []fault {
	const c = v1alpha1.CheckConflist
	stopped := []said{fails(v1alpha1.CheckCiliumAlive, v1alpha1.CiliumStopped)}
	return []fault{
		{"the VPC CNI's conflist, stale, lies behind", whileStopped(conflist(awsFile, awsConf)), warns(c, v1alpha1.ConflistLeftovers), stopped},
		{"the VPC CNI's conflist, stale, wins", whileStopped(conflist("00-aws.conflist", awsConf)), fails(c, v1alpha1.ConflistWrongCNI), stopped},
		{"a stranger's conflist wins", whileStopped(conflist("00-stranger.conflist", strangerConf)), fails(c, v1alpha1.ConflistForeignFirst), stopped},
		{"net.d is empty", whileStopped(aside(ciliumFile)), fails(c, v1alpha1.ConflistNone), stopped},
		{"Cilium sets the VPC CNI's conflist aside", setAside(awsFile, awsConf), warns(c, v1alpha1.ConflistSetAside), nil},
	}
}

// setAside writes a conflist and lets Cilium do what it does.
func setAside(name, content string) trouble {
	bak := name + ".cilium_bak"
	return trouble{
		plant: inOrder(conflist(name, content).plant, func(ctx context.Context, _ *scene, host lab.Host) error {
			return until(ctx, 10*time.Second, func() string {
				if _, err := os.Stat(inNode(host, filepath.Join(netd, bak))); err != nil {
					return err.Error()
				}
				return ""
			})
		}),
		cure: conflist(bak, "").cure,
	}
}

// conflist puts a file into place as a careful program does, by a rename in the same directory.
func conflist(name, content string) trouble {
	return trouble{
		plant: func(_ context.Context, _ *scene, host lab.Host) error {
			dir := inNode(host, netd)
			if err := os.WriteFile(filepath.Join(dir, ".fault"), []byte(content), 0o644); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, ".fault"), filepath.Join(dir, name))
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error {
			return os.Remove(filepath.Join(inNode(host, netd), name))
		},
	}
}

// aside moves a file out of net.d.
func aside(name string) trouble {
	return renamed(filepath.Join(netd, name), filepath.Join(filepath.Dir(netd), name+".aside"))
}

// renamed gives a file of the node another name.
func renamed(from, to string) trouble {
	move := func(from, to string) hand {
		return func(_ context.Context, _ *scene, host lab.Host) error {
			return os.Rename(inNode(host, from), inNode(host, to))
		}
	}
	return trouble{move(from, to), move(to, from)}
}

// unreadable takes every permission from net.d, or from a file in it. Kubelet and containerd, which have CAP_DAC_OVERRIDE, do not notice.
func unreadable(name string) trouble {
	var mode os.FileMode
	path := filepath.Join(netd, name)
	return trouble{
		plant: func(_ context.Context, _ *scene, host lab.Host) error {
			info, err := os.Stat(inNode(host, path))
			if err != nil {
				return err
			}
			mode = info.Mode().Perm()
			return os.Chmod(inNode(host, path), 0)
		},
		cure: func(_ context.Context, _ *scene, host lab.Host) error { return os.Chmod(inNode(host, path), mode) },
	}
}
