// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package check judges what package facts gathered about one node. It is pure: the same facts give the same findings, and it
// asks neither the system, nor the network, nor a clock.
//
// A finding is Pass, Warn, Fail or Unknown. Unknown is every case in which the facts do not suffice: a part that was not
// seen, a sample of zero, a contradiction that waiting may resolve. Nothing is concluded from an absence unless the
// facts say that the place was looked at and found empty.
package check
