// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/traffic/load"
)

func loadCommand() *cobra.Command {
	config := load.Defaults()
	var address string
	var networks []string
	for _, n := range config.Networks {
		networks = append(networks, n.Name+"="+n.Prefix.String())
	}
	cmd := &cobra.Command{
		Use:   "load --address IP",
		Short: "Ask the lab's applications through the balancer at a fixed rate, and count every answer that is missing",
		Long: fmt.Sprintf(`Sends --rate requests a second to --address at ports %d and up, in turn to each of
the lab's applications, each request at its instant, on a connection of its own and
once. Everything but a whole 200 within --timeout of that instant is lost. Prints
an object with counts each --progress interval and a summary ("final": true) as
the last one. Lost requests do not make it fail: who reads the summary judges.`, firstPort),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Targets, config.Networks = nil, nil
			for i, a := range app.Apps() {
				url := "http://" + net.JoinHostPort(address, strconv.Itoa(firstPort+i)) + "/"
				config.Targets = append(config.Targets, load.Target{App: a.Flavour, URL: url})
			}
			for _, n := range networks {
				name, cidr, _ := strings.Cut(n, "=")
				prefix, err := netip.ParsePrefix(cidr)
				if err != nil {
					return fmt.Errorf("reading --network %q, which should look like overlay=10.244.0.0/16: %w", n, err)
				}
				config.Networks = append(config.Networks, load.Network{Name: name, Prefix: prefix})
			}
			_, err := load.Run(cmd.Context(), config, cmd.OutOrStdout())
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&address, "address", "10.0.0.10", "IP address of the balancer")
	flags.Float64Var(&config.Rate, "rate", config.Rate, "requests a second, over all applications")
	flags.DurationVar(&config.Timeout, "timeout", config.Timeout, "limit of a request from its scheduled instant")
	flags.Uint64Var(&config.Requests, "requests", config.Requests, "end after that many requests; 0: on SIGTERM")
	flags.IntVar(&config.MaxFailures, "max-failures", config.MaxFailures, "how many lost requests to describe one by one")
	flags.DurationVar(&config.Progress, "progress", config.Progress, "time between two lines of progress")
	flags.StringArrayVar(&networks, "network", networks, "name=CIDR of pod addresses to count answers by (repeatable)")
	return cmd
}
