# Copyright The cni-cutover Authors
# SPDX-License-Identifier: Apache-2.0

# One static binary an image and nothing else: no shell to get into, no library to patch. The binaries
# are built first (`make build`), so this needs no registry; `make images` calls it once a target.

FROM scratch AS agent
COPY bin/cutover-agent /cutover-agent
# User 0 because Cilium's pins and net.d belong to root; the chart drops every capability that looking
# does not need.
USER 0:0
ENTRYPOINT ["/cutover-agent"]

FROM scratch AS coordinator
COPY bin/cutover-coordinator /cutover-coordinator
# It never touches a host: the user that distroless images call nonroot.
USER 65532:65532
ENTRYPOINT ["/cutover-coordinator"]
