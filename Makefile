# Copyright The cni-cutover Authors
# SPDX-License-Identifier: Apache-2.0

# `make help` lists the targets. The work is done by the scripts in tools/; this is their index.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Go may be installed and not on root's PATH.
export PATH := $(PATH):/usr/local/go/bin
export GOFLAGS += -buildvcs=false

VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo dev)
COMMANDS := $(notdir $(wildcard cmd/*))
ROOT = if [ "$$(id -u)" -ne 0 ]; then echo "$@: needs root, you are $$(id -un); run: sudo make $@" >&2; exit 1; fi

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: $(COMMANDS) ## Build the programs in cmd/ as static binaries into bin/

# Always handed to go, which knows better than timestamps whether there is anything to do.
.PHONY: $(COMMANDS)
$(COMMANDS):
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/$@ ./cmd/$@

.PHONY: generate
generate: ## Derive deep copies, CRDs, eBPF objects, the table of instance types and pictures
	tools/generate

.PHONY: tools
tools: ## Build the pinned tools (helm, controller-gen, golangci-lint, krew, freeze) into bin/
	tools/install

.PHONY: images
images: build ## Build the container images into bin/images/ (TAG=dev)
	tools/images

# A quarter of an hour of processor time at first: Kubernetes' client, compiled for six platforms.
.PHONY: release
release: ## Build the plugin's archives and its krew manifest into bin/release (VERSION=v1.2.3)
	tools/install krew
	go run ./tools/release $(VERSION)

.PHONY: lab
lab: ## Build the laboratory: Kubernetes, CNI plugins, stand-ins, their images
	tools/lab

.PHONY: test
test: ## Everything that has to hold, as root: lint, unit, kernel, chart, end to end
	@tools/test

.PHONY: race
race: ## The unit tests again, with the race detector (not the lab)
	@$(ROOT)
	tools/apt
	tools/install helm krew
	$(MAKE) --no-print-directory build lab
	go test -race -p 2 -count=1 $$(go list ./... | grep -vE '/lab(/|$$)')

.PHONY: demo
demo: ## Watch a whole cutover on this machine, as root (MODE=secondary|shared, KEEP=1)
	@$(ROOT)
	tools/apt
	tools/install helm
	$(MAKE) --no-print-directory images lab
	bin/demo --mode=$(or $(MODE),secondary) $(if $(KEEP),--keep)

# A quarter of an hour on two idle cores, most of it waiting: slots take the time that they take. docs/figures.md says what
# was seen.
.PHONY: bench
bench: ## Run the benchmarks, but for those of thousands of nodes
	@$(ROOT)
	tools/apt bench
	CGO_ENABLED=0 go test -p 1 -run '^$$' -bench . -skip 'BenchmarkFleet|BenchmarkPreflight' -benchmem -timeout 1h ./...

# Twenty minutes on two cores: half of it until 5,000 nodes run 11,000 pods.
.PHONY: bench-fleet
bench-fleet: ## Roll thousands of nodes (FIGURES_NODES=5000, FIGURES_ROLL=640)
	@$(ROOT)
	CGO_ENABLED=0 go test -run '^$$' -bench BenchmarkFleet -timeout 3h ./internal/figures

# Six minutes on two cores, five of them until 50,000 pods are written.
.PHONY: bench-preflight
bench-preflight: ## Look at 5,000 nodes and 50,000 pods with the plugin (FIGURES_NODES=5000)
	CGO_ENABLED=0 go test -run '^$$' -bench BenchmarkPreflight -timeout 1h ./internal/figures

.PHONY: schedules
schedules: ## Play a million interleavings of coordinators, crashes and clusters (SCHEDULES=1000000, SEED=0)
	go test -run '^$$' -bench Schedules -benchtime $(or $(SCHEDULES),1000000)x -timeout 1h ./coordinator/plan -seed $(or $(SEED),0)

.PHONY: crash
crash: ## Kill the coordinator before and after every write of a roll (FROM=1 TO=last)
	tools/install helm
	CGO_ENABLED=0 go test -trimpath -count=1 -vet=off -timeout 3h -v ./cmd/cutover-coordinator \
		-run 'AtOneWrite$(if $(FROM)$(TO),,|APIServer)' -args -crash.from=$(or $(FROM),1) -crash.to=$(or $(TO),0)

.PHONY: fuzz
fuzz: ## Run each fuzz test for a minute (FUZZTIME=1m)
	tools/fuzz $(or $(FUZZTIME),1m)

.PHONY: clean
clean: ## Remove what was built and cached here
	rm -rf bin .cache
