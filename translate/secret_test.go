package translate

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretDoesNotShow(t *testing.T) {
	s := Secret("sk-canary")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "in", struct{ Key Secret }{s})
	encoded, err := json.Marshal(map[string]any{"a": s, "b": &Request{ClientKey: s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		log.String(), string(encoded), fmt.Sprint(s), fmt.Sprintf("%s %v %q %x %#v %d", s, s, s, s, s, s), fmt.Sprintf("%+v", struct{ K Secret }{s}),
	} {
		if strings.Contains(got, "canary") || strings.Contains(got, "736b") || !strings.Contains(got, redacted) {
			t.Errorf("shows as %s", got)
		}
	}
	if s.Reveal() != "sk-canary" {
		t.Errorf("Reveal() = %q", s.Reveal())
	}
}
