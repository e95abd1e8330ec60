package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// A server that refuses max_tokens by name is asked in the other field, and
// from then on at once.
func TestARefusedLimitFieldIsLearnt(t *testing.T) {
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/chat/completions" || strings.Contains(string(body), `"max_tokens"`) || !strings.Contains(string(body), `"max_completion_tokens":9`) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens"}}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}`)
	}))
	t.Cleanup(s.Close)
	u, err := NewOpenAI(OpenAIConfig{BaseURL: s.URL + "/v1/chat/completions"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	for i, want := range []int32{2, 3} {
		r, err := translate.ParseRequest([]byte(`{"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range u.Chat(t.Context(), r) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if calls.Load() != want {
			t.Errorf("request %d: %d calls in all, want %d", i, calls.Load(), want)
		}
	}
}

func TestWaitsOfEveryDialect(t *testing.T) {
	for _, c := range []struct {
		header []string
		want   time.Duration
	}{
		{[]string{"X-Ms-Retry-After-Ms", "1500"}, 1500 * time.Millisecond},
		{[]string{"Retry-After", "2s"}, 2 * time.Second},
		{[]string{"X-Ratelimit-Remaining-Tokens", "0", "X-Ratelimit-Reset-Tokens", "6.5s", "X-Ratelimit-Remaining-Requests", "9", "X-Ratelimit-Reset-Requests", "20s"}, 6500 * time.Millisecond},
		{[]string{"X-Ratelimit-Reset", "7"}, 7 * time.Second},
		{[]string{"X-Ratelimit-Reset", "soon"}, 0},
	} {
		h := http.Header{}
		for i := 0; i < len(c.header); i += 2 {
			h.Set(c.header[i], c.header[i+1])
		}
		if got := retryAfter(h); got != c.want {
			t.Errorf("%v: got %v, want %v", c.header, got, c.want)
		}
	}
}
