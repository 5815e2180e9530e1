// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Rollout bounds how fast nodes are rolled and what makes the roll stop.
// +kubebuilder:validation:XValidation:rule="!has(self.maxConcurrentPerZone) || !has(self.maxConcurrent) || self.maxConcurrentPerZone <= self.maxConcurrent",message="rollout.maxConcurrentPerZone must not exceed rollout.maxConcurrent"
type Rollout struct {
	// maxConcurrent is how many slots may be held at once.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +optional
	MaxConcurrent int32 `json:"maxConcurrent,omitempty"`
	// maxUnavailable is how many nodes may be out of service at once, whatever the cause: slots plus all other nodes that
	// were Ready once and are not, or are cordoned.
	// +kubebuilder:default=1
	// +kubebuilder:validation:XValidation:rule="self >= 1",message="rollout.maxUnavailable must be at least 1, or no node can ever be granted a slot"
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MaxUnavailable int32 `json:"maxUnavailable,omitempty"`
	// maxConcurrentPerZone is how many slots one zone may hold at once; absent, zones are not counted apart.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +optional
	MaxConcurrentPerZone *int32 `json:"maxConcurrentPerZone,omitempty"`
	// canary is how many nodes are rolled one by one, each to its end, before slots are handed out concurrently.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Canary *int32 `json:"canary,omitempty"`
	// soak is how long a validated replacement must stay healthy before its slot is released.
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="rollout.soak must be between 0s and 24h"
	// +optional
	Soak metav1.Duration `json:"soak,omitzero"`
	// failureBudget is how many slots may be held at the same time before no more are granted.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	// +optional
	FailureBudget int32 `json:"failureBudget,omitempty"`
	// surge makes the replacement join and prove itself before the old node is drained.
	// +optional
	Surge bool `json:"surge,omitempty"`
	// holdOn are Reasons of Warn findings that keep a node from getting a slot, as a Fail would.
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=63
	// +optional
	HoldOn []string `json:"holdOn,omitempty"`
	// drain says how a node is emptied.
	// +kubebuilder:default={}
	// +optional
	Drain Drain `json:"drain,omitzero"`
	// windows are the times in which slots may be granted; absent, always. A granted slot finishes outside of them.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Windows []Window `json:"windows,omitempty"`
	// order is the order in which nodes are rolled. Name: by name. Zone: one zone after the other, by name inside.
	// +kubebuilder:default=Name
	// +kubebuilder:validation:Enum=Name;Zone
	// +optional
	Order Order `json:"order,omitempty"`
}

// Order is the order in which nodes are rolled.
type Order string

// The orders. Mixed nodes always come first and the coordinator's own node always comes last.
const (
	OrderName Order = "Name"
	OrderZone Order = "Zone"
)

// Drain says how a node is emptied.
type Drain struct {
	// deregistrationDelay is how long the coordinator waits between taking a node out of load balancers and the first
	// eviction. It must be longer than the target groups' own delay (300 s by default at AWS).
	// Always written, because 0s is a wish: a slot's terms that left it away would get the default back.
	// +kubebuilder:default="310s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('2h')",message="rollout.drain.deregistrationDelay must be between 0s and 2h"
	// +optional
	DeregistrationDelay metav1.Duration `json:"deregistrationDelay"`
	// timeout is how long evictions may take before the slot is held.
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="rollout.drain.timeout must be between 1s and 24h"
	// +optional
	Timeout metav1.Duration `json:"timeout,omitzero"`
	// deleteEmptyDirData lets pods with emptyDir volumes be evicted; their data goes with them.
	// +kubebuilder:default=true
	// +optional
	DeleteEmptyDirData *bool `json:"deleteEmptyDirData,omitempty"`
	// force lets pods that no controller will re-create be evicted.
	// +optional
	Force bool `json:"force,omitempty"`
}

// Window is a time in which slots may be granted: on each of the days, from start for duration, by the wall clock of
// timeZone.
type Window struct {
	// days of the week on which the window opens; absent, every day.
	// +listType=set
	// +kubebuilder:validation:MaxItems=7
	// +optional
	Days []Weekday `json:"days,omitempty"`
	// start is the wall clock time at which the window opens, HH:MM in 24 hours.
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([01][0-9]|2[0-3]):[0-5][0-9]$')",message="a window's start must be HH:MM in 24 hours, as 02:30"
	Start string `json:"start"`
	// duration is how long the window stays open; it may pass midnight.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('24h')",message="a window's duration must be between 1m and 24h"
	Duration metav1.Duration `json:"duration"`
	// timeZone is an IANA name, as Europe/Berlin. A name that the coordinator does not know stalls the Cutover.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
}

// Weekday is a day of the week.
// +kubebuilder:validation:Enum=Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday
type Weekday string
