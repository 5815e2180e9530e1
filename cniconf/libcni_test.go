// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"errors"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// loadAsContainerd is what go-cni 1.1.x does with a directory and max_conf_num = 1, on the real libcni: the yardstick.
func loadAsContainerd(dir string) (file string, list *libcni.NetworkConfigList, err error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil || len(files) == 0 {
		return "", nil, err
	}
	sort.Strings(files)
	file = filepath.Base(files[0])
	if strings.HasSuffix(file, ".conflist") {
		list, err = libcni.ConfListFromFile(files[0])
	} else {
		var conf *libcni.PluginConfig
		if conf, err = libcni.ConfFromFile(files[0]); err == nil { //nolint:staticcheck // what go-cni calls
			list, err = libcni.ConfListFromConf(conf) //nolint:staticcheck // what go-cni calls
		}
	}
	if err == nil && len(list.Plugins) == 0 {
		err = errors.New("no plugins")
	}
	return file, list, err
}

// agree compares our judgement of a real directory with libcni's loading of it.
func agree(t *testing.T, dir string) {
	t.Helper()
	d := reader{root: "/", dir: dir, pause: func() {}}.read()
	o := d.Judge()
	checkOutcome(t, d, o)
	file, list, err := loadAsContainerd(dir)
	if o.Winner == nil {
		if file != "" || err != nil {
			t.Errorf("libcni decides by %q (%v), we by nothing: %v", file, err, o.State)
		}
		return
	}
	w := o.Winner
	if w.File != file {
		t.Fatalf("libcni decides by %q, we by %q", file, w.File)
	}
	if list != nil && strings.Contains(list.Name, "/") && w.Condition != Loads {
		return // libcni would read plugins from anywhere on the disk; every pod is refused in any case
	}
	if loads := w.Condition == Loads || w.Condition == Refuses; loads != (err == nil) {
		t.Fatalf("libcni says %v of %q, we say %v: %s", err, file, w.Condition, o.Why)
	}
	if err != nil {
		return
	}
	var plugins []string
	for _, p := range list.Plugins {
		plugins = append(plugins, p.Network.Type)
	}
	if w.Network != list.Name || w.CNIVersion != list.CNIVersion || strings.Join(w.Plugins, "\x00") != strings.Join(plugins, "\x00") {
		t.Errorf("libcni loads %q %q %q, we %q %q %q", list.Name, list.CNIVersion, plugins, w.Network, w.CNIVersion, w.Plugins)
	}
}

// corpus are contents on every side of each rule.
func corpus(t testing.TB) []string {
	out := []string{"", " ", "{}", "null", "[]", `"x"`, "{", sample(t, "05-cilium.conflist"), sample(t, "10-aws.conflist"), sample(t, "10-aws.conflist") + "x"}
	return append(out,
		`{"type":"x"}`, `{"Type":"x","TYPE":""}`, `{"type":1}`, `{"type":"x","name":1}`, `{"type":"x","capabilities":{"a":"b"}}`, `{"type":"x","ipam":[]}`,
		`{"type":"x","ipam":null,"dns":{"nameservers":"x"}}`, `{"type":"x","prevResult":{}}`, `{"type":"x","prevResult":3}`, `{"type":"x","cni.dev/valid-attachments":1}`,
		`{"name":"n","type":"x","plugins":[]}`, `{"name":"n","plugins":null}`, `{"name":null,"plugins":[{"type":"x"}]}`, `{"Name":"n","plugins":[{"type":"x"}]}`,
		`{"name":"n","plugins":[{"type":"x"}]}`, `{"name":"","plugins":[{"type":"x"}]}`, `{"name":".","plugins":[{"type":"x"}]}`, `{"name":"..","plugins":[{"type":"x"}]}`,
		`{"name":"sub"}`, `{"name":"sub","plugins":[{"type":"x"}]}`, `{"name":"link"}`, `{"name":"gone","plugins":[{"type":"x"}]}`, `{"name":"file","plugins":[{"type":"x"}]}`,
		`{"name":"00.conflist","plugins":[{"type":"x"}]}`, `{"name":"a\u0000b","plugins":[{"type":"x"}]}`, `{"name":"a/b","plugins":[{"type":"x"}]}`,
		`{"name":"`+strings.Repeat("n", 256)+`","plugins":[{"type":"x"}]}`, `{"name":"`+strings.Repeat("n", 255)+`","plugins":[{"type":"x"}]}`,
		`{"name":"n","loadOnlyInlinedPlugins":"TRUE"}`, `{"name":"n","loadOnlyInlinedPlugins":"true","plugins":[{"type":"x"}]}`, `{"name":"file","loadOnlyInlinedPlugins":true,"plugins":[{"type":"x"}]}`,
		`{"name":"n","disableCheck":"no","plugins":[{"type":"x"}]}`, `{"name":"n","disableGC":1,"plugins":[{"type":"x"}]}`,
		`{"name":"n","cniVersion":1,"plugins":[{"type":"x"}]}`, `{"name":"n","cniVersion":"x","plugins":[{"type":"x"}]}`, `{"name":"n","cniVersions":["x"],"plugins":[{"type":"x"}]}`,
		`{"name":"n","cniVersions":["0.4.0","1.0.0","9.0.0"],"plugins":[{"type":"x"}]}`, `{"name":"n","cniVersions":"1.0.0","plugins":[{"type":"x"}]}`, `{"name":"n","cniVersion":"x","cniVersions":["1.0.0"],"plugins":[{"type":"x"}]}`,
		strings.Repeat("[", 20000), `{"name":"n","plugins":`+strings.Repeat("[", 9999)+strings.Repeat("]", 9999)+`}`,
	)
}

func TestAgreesWithLibcniOnFiles(t *testing.T) {
	for _, ext := range []string{".conflist", ".conf", ".json"} {
		for _, content := range corpus(t) {
			dir := plant(t, "00"+ext, content, "10-second.conf", `{"type":"second"}`, "file", "", "sub/b.conf", `{"type":"b"}`, "sub/a.conf", `{"type":"a"}`, "sub/c.json", "{")
			link(t, "sub", filepath.Join(dir, "link"))
			link(t, "nowhere", filepath.Join(dir, "gone"))
			agree(t, dir)
			if t.Failed() {
				t.Fatalf("on 00%s with %.200q", ext, content)
			}
		}
	}
}

// FuzzAgreesWithLibcni writes a file, a second one and a plugin file, and compares our judgement with libcni's loading.
func FuzzAgreesWithLibcni(f *testing.F) {
	for i, c := range corpus(f) {
		f.Add(uint8(i), []byte(c), []byte(`{"type":"x"}`), "sub")
	}
	base := f.TempDir()
	f.Fuzz(func(t *testing.T, ext uint8, first, plugin []byte, sub string) {
		if len(first) > MaxFileBytes || len(plugin) > MaxFileBytes {
			return
		}
		dir, err := os.MkdirTemp(base, "netd")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if sub != "" && sub != "." && sub != ".." && len(sub) < 256 && !strings.ContainsAny(sub, "/\x00") {
			write(t, filepath.Join(dir, sub, "p.conf"), string(plugin))
		}
		name := filepath.Join(dir, "00"+[]string{".conflist", ".conf", ".json"}[ext%3])
		if os.WriteFile(name, first, 0o600) != nil {
			return // sub took the name
		}
		agree(t, dir)
	})
}

// FuzzJudge holds every rule of an outcome on any directory: any names, types, problems and bytes.
func FuzzJudge(f *testing.F) {
	for i, c := range corpus(f) {
		f.Add("05-cilium.conflist", []byte(c), uint8(i), "10-aws.conf\n\xff", []byte(`{"type":"multus","clusterNetwork":"/cni/net.d/05-cilium.conflist"}`), uint8(0), "/etc/cni/net.d", "x", uint8(Listed))
	}
	f.Fuzz(func(t *testing.T, a string, abytes []byte, aproblem uint8, b string, bbytes []byte, bproblem uint8, path, detail string, listing uint8) {
		d := Directory{Path: path, Listing: Listing(listing), Detail: detail, Entries: []Entry{
			{Name: a, Bytes: abytes, Type: Type(aproblem / 16 % 4), Problem: Problem(aproblem % 16), Target: detail, Detail: detail},
			{Name: b, Bytes: bbytes, Type: Type(bproblem / 16 % 4), Problem: Problem(bproblem % 16), Target: path, Detail: detail},
		}}
		checkOutcome(t, d, d.Judge())
	})
}
