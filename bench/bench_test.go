package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []float64
		want float64
	}{
		{"one", []float64{3}, 3},
		{"the middle, whatever the order", []float64{9, 1, 4}, 4},
		{"between the middle two", []float64{1, 9, 4, 2}, 3},
	} {
		if got := median(tt.in); got != tt.want {
			t.Errorf("%s: median = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestTable(t *testing.T) {
	proxies := []*proxy{{name: directName}, {name: bareName}, {name: "router", router: true}}
	scenarios := allScenarios(regexp.MustCompile("^1 KB$|^2000/s$"))
	got := table(proxies, scenarios, map[key][]reading{
		{"1 KB", bareName}:     {{cpu: 50}},
		{"1 KB", "router"}:     {{cpu: 60}},
		{"2000/s", directName}: {{p50: 200, p99: 300}},
		{"2000/s", bareName}:   {{p50: 400, p99: 800, cpu: 150, rss: 14}},
		{"2000/s", "router"}:   {{p50: 420, p99: 900, cpu: 180, rss: 35}, {p50: 420, p99: 900, cpu: 180, rss: 90}},
	})
	for _, want := range []string{
		"1 KB, CPU µs per request                              50.0     60.0  1.20×\n",
		"2000/s, p50 µs                                 200             400      420  1.05×\n",
		"2000/s, RSS MB                                                  14       35  2.50×\n",
	} {
		if !strings.Contains(squeeze(got), squeeze(want)) {
			t.Errorf("table lacks %q:\n%s", want, got)
		}
	}
}

// squeeze makes any run of blanks one.
func squeeze(s string) string { return regexp.MustCompile(` +`).ReplaceAllString(s, " ") }

func TestCPUTimeOfAnotherProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		used, err := p.cpu()
		if err != nil {
			t.Fatal(err)
		}
		if used > 20*time.Millisecond {
			if p.rss() <= 0 {
				t.Errorf("rss() = %v, want more than 0", p.rss())
			}
			return
		}
	}
	t.Error("cpu() stays under 20 ms for a process that spins")
}
