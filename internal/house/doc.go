// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package house keeps the laws of this repository that a compiler and a linter do not see: each law is
// a pure function over the tracked files, listed with its reason in Laws, and `go test` is the judge.
package house
