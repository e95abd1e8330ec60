package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.HasPrefix(got, "powerful answered for $0.00") || !strings.Contains(got, "capital of France") {
		t.Errorf("got %s", got)
	}
}
