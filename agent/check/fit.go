// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const (
	// cutShort ends a message that had to be shortened for the sake of the others.
	cutShort = "... (cut: the report may not exceed 16 KiB)"
	// leastMessage is the length, in bytes, below which cutting a message gains nothing.
	leastMessage = 2 * len(cutShort)
)

// fit shortens the longest messages until the API server takes the report. Eleven findings of 512 bytes fit with all their numbers;
// what does not are hundreds of characters that JSON writes as six, and those are in names that somebody chose for it. A
// report that is refused would be no report, and verdicts and reasons are never what is cut.
func fit(findings []v1alpha1.Finding) []v1alpha1.Finding {
	for most := v1alpha1.MaxMessageBytes; size(findings) > v1alpha1.MaxFindingsBytes && most > leastMessage; {
		most = max(most*3/4, leastMessage)
		for i := range findings {
			findings[i].Message = shorten(findings[i].Message, most)
		}
	}
	return findings
}

func size(findings []v1alpha1.Finding) int {
	sum := 0
	for i := range findings {
		sum += findings[i].Size()
	}
	return sum
}

func shorten(message string, most int) string {
	if len(message) <= most {
		return message
	}
	message = strings.TrimSuffix(message, cutShort)
	return strings.ToValidUTF8(message[:min(len(message), most-len(cutShort))], "") + cutShort
}
