// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHierarchies(t *testing.T) {
	for name, test := range map[string]struct {
		mountinfo string
		want      []hierarchy
	}{
		"unified": {
			"31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
			[]hierarchy{{"/sys/fs/cgroup", 2, ""}},
		},
		"version 1 with a named hierarchy and version 2 beside it": {
			"30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" +
				"31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n" +
				"33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			[]hierarchy{
				{"/sys/fs/cgroup/cpu,cpuacct", 1, "cpu,cpuacct"},
				{"/sys/fs/cgroup/systemd", 1, "none,name=systemd"},
				{"/sys/fs/cgroup/unified", 2, ""},
			},
		},
		"a hierarchy mounted twice counts once": {
			"31 30 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n31 30 0:27 / /elsewhere rw - cgroup cgroup rw,pids\n",
			[]hierarchy{{"/sys/fs/cgroup/pids", 1, "pids"}},
		},
		"none": {"1 1 8:1 / / rw - ext4 /dev/sda rw\nbroken line\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseHierarchies(strings.NewReader(test.mountinfo))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(hierarchy{})); diff != "" {
				t.Errorf("hierarchies differ (-want +got):\n%s", diff)
			}
		})
	}
}
