// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cni-cutover/cni-cutover/lab"
	"github.com/cni-cutover/cni-cutover/lab/image"
)

// writeImage makes an image of static programs; the first file is the entry point.
func writeImage() *cobra.Command {
	var ref, output string
	cmd := &cobra.Command{
		Use: "image --ref REF --output FILE SOURCE=PATH...", Args: cobra.MinimumNArgs(1),
		Short: "Write an image FROM scratch of files; the first one is its entry point",
		RunE: func(_ *cobra.Command, args []string) error {
			made := image.Image{Ref: ref}
			for _, arg := range args {
				source, path, ok := strings.Cut(arg, "=")
				if !ok || !filepath.IsAbs(path) {
					return fmt.Errorf("reading %q: want SOURCE=PATH with an absolute path in the image", arg)
				}
				made.Files = append(made.Files, image.File{Path: path, Source: source})
			}
			made.Entrypoint = []string{made.Files[0].Path}
			return image.WriteFile(output, made)
		},
	}
	cmd.Flags().StringVar(&ref, "ref", "", "name and tag")
	cmd.Flags().StringVar(&output, "output", "", "archive to write")
	return cmd
}

func show(cmd *cobra.Command, host lab.Host) {
	cmd.Printf("%-14s %-10s %s\n", host.Name, host.Instance.Interfaces[0].Primary, strings.Join(lab.Enter(host), " "))
}
