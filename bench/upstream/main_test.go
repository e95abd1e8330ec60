package main

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// ask returns the answer to a request and how long it took.
func ask(t *testing.T, body string) (answered string, took time.Duration) {
	t.Helper()
	w := httptest.NewRecorder()
	start := time.Now()
	answer(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(body)))
	text, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), time.Since(start)
}

func TestWholeAnswer(t *testing.T) {
	got, _ := ask(t, `{"messages":[{"role":"user","content":"Hi"}]}`)
	var completion struct {
		Usage struct {
			TotalTokens int `json:"total_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(got), &completion); err != nil || completion.Usage.TotalTokens == 0 {
		t.Errorf("answer %q, error %v, want a completion with its usage", got, err)
	}
}

func TestStream(t *testing.T) {
	got, took := ask(t, `{"messages":[{"role":"user","content":"Hi pace=2ms"}],"max_completion_tokens":10,"stream":true}`)
	events := strings.Split(strings.TrimSuffix(got, "\n\n"), "\n\n")
	if len(events) != 11 || events[10] != "data: [DONE]" {
		t.Fatalf("%d events, the last %q, want 10 and [DONE]", len(events), events[len(events)-1])
	}
	for i, event := range events[:10] {
		if data := strings.TrimPrefix(event, "data: "); !json.Valid([]byte(data)) || strings.Contains(data, `"stop"`) != (i == 9) {
			t.Errorf("event %d is %s, want JSON, and a finish reason at the end", i, event)
		}
	}
	if took < 18*time.Millisecond {
		t.Errorf("ten chunks at 2 ms took %s", took)
	}
}
