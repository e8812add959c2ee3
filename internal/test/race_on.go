//go:build race

package test

// Race reports whether the race detector looks on: it takes time and memory of its
// own.
const Race = true
