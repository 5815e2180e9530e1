#!/bin/sh
# Copyright The cni-cutover Authors
# SPDX-License-Identifier: Apache-2.0

# Compiles the data path. One clang major only: another one gives other bytes.
set -eu
cd "$(dirname "$0")"
clang-14 -O2 -g -Wall -Werror -target bpfel -mcpu=v2 -fno-ident -fdebug-compilation-dir=. \
	-I"/usr/include/$(gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)" \
	-c cilium.c -o cilium.o
llvm-strip-14 -g cilium.o
