// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// agentLivenessIndex is AgentLiveness in Cilium pkg/maps/configmap.
const agentLivenessIndex uint32 = 1

// RuntimeConfig is what the agent tells its datapath while it runs.
type RuntimeConfig struct {
	// AgentLiveness is the reading of CLOCK_MONOTONIC when the agent last stamped it; a live agent does so every
	// second. 0 means it never did. Compare with Monotonic.
	AgentLiveness time.Duration
}

// ReadRuntimeConfig reads cilium_runtime_config. globalsDir is <bpffs>/tc/globals.
func ReadRuntimeConfig(globalsDir string) (RuntimeConfig, error) {
	m, err := openMap(globalsDir, RuntimeConfigPin)
	if err != nil {
		return RuntimeConfig{}, err
	}
	defer m.Close()
	var value [8]byte
	if err := m.Lookup(agentLivenessIndex, &value); err != nil {
		return RuntimeConfig{}, fmt.Errorf("reading index %d of %s: %w", agentLivenessIndex, RuntimeConfigPin, err)
	}
	liveness, err := DecodeAgentLiveness(value[:])
	if err != nil {
		return RuntimeConfig{}, fmt.Errorf("reading index %d of %s: %w", agentLivenessIndex, RuntimeConfigPin, err)
	}
	return RuntimeConfig{AgentLiveness: liveness}, nil
}

// DecodeAgentLiveness decodes the 8-byte value at index 1 of cilium_runtime_config: nanoseconds, host order.
func DecodeAgentLiveness(b []byte) (time.Duration, error) {
	if len(b) != 8 {
		return 0, &DecodeError{"runtime_config value", append([]byte(nil), b...), fmt.Sprintf("%d bytes instead of 8", len(b))}
	}
	ns := binary.NativeEndian.Uint64(b)
	if ns > math.MaxInt64 {
		return 0, &DecodeError{"runtime_config value", append([]byte(nil), b...), "more nanoseconds than a clock can have counted"}
	}
	return time.Duration(ns), nil
}

// Monotonic reads CLOCK_MONOTONIC, the clock AgentLiveness is told in. It is the host's as long as the process
// is in no time namespace of its own; no container runtime makes one.
func Monotonic() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, fmt.Errorf("reading CLOCK_MONOTONIC: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
