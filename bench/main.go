// Command bench measures the router beside a bare reverse proxy:
//
//	go run ./bench            about five minutes, medians of five rounds
//	go run ./bench -quick     under a minute
//	go run ./bench -redis     with the router on a Redis of its own as well
//
// It builds everything, starts an upstream that answers at once, and sends the
// same load through each proxy in turn, round after round, so that a slow
// moment of the machine hits all of them. Where taskset is there the proxies
// have one core to themselves and everything else has another.
//
// The figure to trust is CPU time per request, user and system, of the proxy's
// process: it hardly depends on what else the machine does. Times of the open
// loop do, and need a quiet machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// settings are the command line.
type settings struct {
	rounds  int
	length  time.Duration // of one measurement
	only    *regexp.Regexp
	redis   bool
	routers []router // binaries to compare; empty means this tree's
	keep    string
}

// router is a build of the router.
type router struct{ name, binary string }

func main() {
	s := settings{}
	quick := flag.Bool("quick", false, "two short rounds, under a minute")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds; the median counts")
	flag.DurationVar(&s.length, "for", 3*time.Second, "length of one measurement")
	flag.BoolVar(&s.redis, "redis", false, "also measure with the budgets in Redis; needs redis-server")
	flag.StringVar(&s.keep, "keep", "", "`directory` to leave binaries, configurations and logs in")
	flag.Func("only", "measure only the scenarios that match this `regexp`", func(text string) (err error) {
		s.only, err = regexp.Compile(text)
		return err
	})
	flag.Func("router", "measure this build, `name=binary`, instead of the tree's; may be repeated", func(text string) error {
		name, binary, ok := strings.Cut(text, "=")
		if !ok {
			return errors.New("want name=binary")
		}
		s.routers = append(s.routers, router{name, binary})
		return nil
	})
	flag.Parse()
	if *quick {
		s.rounds, s.length = 2, time.Second
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	dir := s.keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "router-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if err := build(ctx, dir, &s); err != nil {
		return err
	}
	b := &bed{ctx: ctx, dir: dir}
	defer b.stop()
	if err := b.start(s); err != nil {
		return err
	}
	scenarios := allScenarios(s.only)
	if len(scenarios) == 0 {
		return errors.New("-only matches no scenario")
	}
	results, err := b.measure(s, scenarios)
	if err != nil {
		return err
	}
	fmt.Printf("%s %s/%s, %d CPUs, pinned: %t; medians of %d rounds of %s\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), canPin(), s.rounds, s.length)
	fmt.Print(table(b.proxies, scenarios, results))
	return nil
}

// build compiles the programs, and the router unless builds of it were given,
// into dir.
func build(ctx context.Context, dir string, s *settings) error {
	packages := []string{"./bench/upstream", "./bench/bare", "./bench/load"}
	if len(s.routers) == 0 {
		packages = append(packages, ".")
		s.routers = []router{{"router", filepath.Join(dir, "inference-router")}}
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", dir + "/"}, packages...)...)
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
