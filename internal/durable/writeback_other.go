//go:build !linux

package durable

import "os"

func startWriteBack(*os.File) {}
