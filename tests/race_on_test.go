//go:build race

package tests

// The race detector takes memory of its own.
const raceDetector = true
