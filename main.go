// Command inference-router is a drop-in OpenAI-compatible proxy that routes
// each prompt to the cheapest adequate tier of models, fails over, and holds
// users to exact budgets.
package main

import (
	"context"
	"os"
	"runtime"

	"github.com/inference-router/inference-router/internal/command"
)

// Set by the linker: -ldflags "-X main.version=v1.2.3 -X main.commit=abc".
var version, commit string

func main() {
	// A router's live heap is a few megabytes, and the collector starts anew
	// each time it has doubled: hundreds of times a second under load. Memory
	// that is allocated but never touched costs nothing and moves that point,
	// where a larger GOGC would multiply the heap of ten thousand streams.
	ballast := make([]byte, 16<<20)
	command.SetVersion(version, commit)
	code := command.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	runtime.KeepAlive(ballast)
	os.Exit(code)
}
