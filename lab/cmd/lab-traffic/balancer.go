// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cni-cutover/cni-cutover/lab/app"
	"github.com/cni-cutover/cni-cutover/lab/traffic/balancer"
	"github.com/cni-cutover/cni-cutover/lab/traffic/kubenodes"
)

// firstPort is where the balancer listens for the first of the lab's
// applications; each further one has the next port.
const firstPort = 8080

// targetsLine is every target of every application, once a status interval.
type targetsLine struct {
	Time    time.Time               `json:"time"`
	Kind    string                  `json:"kind"` // "targets"
	Targets []balancer.TargetStatus `json:"targets"`
}

func balancerCommand() *cobra.Command {
	config := balancer.Defaults()
	var kubeconfig, address string
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "balancer --kubeconfig FILE --address IP",
		Short: "Balance over the cluster's Ready, not excluded nodes, as a target group of instances does",
		Long: fmt.Sprintf(`Listens on --address at ports %d and up, one for each of the lab's applications,
and carries each connection to the application's node port on one healthy node.
Prints an object for each change of a target (kind "target"), each connection
that got no whole answer ("connection"), and each --status interval all targets ("targets").`, firstPort),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("reading --kubeconfig: %w", err)
			}
			client, err := kubernetes.NewForConfig(rest)
			if err != nil {
				return fmt.Errorf("making a client from --kubeconfig: %w", err)
			}
			return balance(cmd.Context(), config, address, kubenodes.Source{Client: client}, every, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "file that says where the cluster is and who asks")
	flags.StringVar(&address, "address", "10.0.0.10", "IP address to listen on")
	flags.DurationVar(&every, "status", time.Second, "time between two lines with all targets")
	flags.DurationVar(&config.HealthInterval, "health-interval", config.HealthInterval, "time between two health checks of a target")
	flags.DurationVar(&config.HealthTimeout, "health-timeout", config.HealthTimeout, "how long a health check may take")
	flags.StringVar(&config.HealthPath, "health-path", config.HealthPath, "what a health check asks for")
	flags.IntVar(&config.HealthyAfter, "healthy-after", config.HealthyAfter, "good health checks in a row until a target gets traffic")
	flags.IntVar(&config.UnhealthyAfter, "unhealthy-after", config.UnhealthyAfter, "bad health checks in a row until it gets none")
	flags.DurationVar(&config.DeregistrationDelay, "deregistration-delay", config.DeregistrationDelay, "how long an excluded node keeps the connections it has")
	_ = cmd.MarkFlagRequired("kubeconfig") // fails only for a flag that does not exist
	return cmd
}

func balance(ctx context.Context, config balancer.Config, address string, nodes balancer.NodeSource, every time.Duration, out io.Writer) error {
	if every <= 0 {
		return fmt.Errorf("checking --status: %s is no time between two lines; give a positive one", every)
	}
	var services []balancer.Service
	for i, a := range app.Apps() {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(firstPort+i)))
		if err != nil {
			return fmt.Errorf("opening the listener of %s: %w", a.Flavour, err)
		}
		services = append(services, balancer.Service{Name: a.Flavour, Listener: listener, NodePort: a.NodePort})
	}

	lines := make(chan any)
	b, err := balancer.New(config, services, func(e balancer.Event) { lines <- e })
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var tasks errgroup.Group
	tasks.Go(func() error {
		defer stop()
		return b.Run(running, nodes)
	})
	// Not in the loop below: asking for the status waits for events to be
	// taken, so whoever takes them must not ask.
	tasks.Go(func() error {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-running.Done():
				lines <- targetsLine{Time: time.Now(), Kind: "targets", Targets: b.Status()}
				return nil
			case now := <-tick.C:
				lines <- targetsLine{Time: now, Kind: "targets", Targets: b.Status()}
			}
		}
	})
	ended := make(chan error, 1)
	go func() {
		ended <- tasks.Wait()
		close(lines)
	}()

	encoder := json.NewEncoder(out)
	var unwritable error
	for line := range lines { // to the end, also when nobody reads us any more
		if unwritable == nil {
			if err := encoder.Encode(line); err != nil {
				unwritable = fmt.Errorf("writing a line: %w", err)
				stop()
			}
		}
	}
	return errors.Join(<-ended, unwritable)
}
