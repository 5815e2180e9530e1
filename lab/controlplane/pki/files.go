// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writeFile replaces path in one step, readable by its owner only, so that a reader never sees half a file.
func writeFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// writePair writes dir/name.crt and dir/name.key.
func writePair(dir, name string, pair Pair) error {
	return errors.Join(
		writeFile(filepath.Join(dir, name+".key"), pair.Key),
		writeFile(filepath.Join(dir, name+".crt"), pair.Cert),
	)
}

// writeKubeconfig writes a kubeconfig with everything embedded: it may be copied anywhere.
func writeKubeconfig(path, server string, ca []byte, user string, pair Pair) error {
	const cluster = "lab"
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Cert, ClientKeyData: pair.Key}
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: user}
	config.CurrentContext = cluster
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encoding the kubeconfig %s: %w", path, err)
	}
	return writeFile(path, data)
}

// ensureServiceAccountKeys creates dir/sa.key and dir/sa.pub unless both exist. They are kept across
// restarts: a new pair would invalidate every token given to a pod.
func ensureServiceAccountKeys(dir string) error {
	keyPath, pubPath := filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")
	_, keyErr := os.Stat(keyPath)
	_, pubErr := os.Stat(pubPath)
	if keyErr == nil && pubErr == nil {
		return nil
	}
	if err := errors.Join(keyErr, pubErr); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for the service account keys: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the service account public key: %w", err)
	}
	return errors.Join(
		writeFile(keyPath, keyPEM),
		writeFile(pubPath, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})),
	)
}

// withLock runs f while holding an exclusive lock on dir, which is created when missing: two processes
// that find an empty directory must not create two authorities.
func withLock(dir string, f func() error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the certificate directory: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the certificate directory: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking the certificate directory %s: %w", dir, err)
	}
	return f()
}
