package main

import (
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/routing"
)

func TestNights(t *testing.T) {
	for hour, want := range map[int]string{23: "powerful", 3: "powerful", 12: "balanced"} {
		router, err := newRouter(func() time.Time { return time.Date(2026, 11, 22, hour, 0, 0, 0, time.UTC) })
		if err != nil {
			t.Fatal(err)
		}
		d := router.Decide(&routing.Request{Prompt: "compare B-trees vs LSM trees"})
		if d.Tier != want || d.Strategy != "ChainStrategy" || hour == 12 && !strings.Contains(d.Reason, "day allows") {
			t.Errorf("at %d h: %s (%s), want %s", hour, d.Tier, d.Reason, want)
		}
	}
}
