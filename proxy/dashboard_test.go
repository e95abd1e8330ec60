package proxy_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestTheDashboardShowsARequestAMomentAfterIt(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	if resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hello", `"max_tokens":10`)); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	resp, err := http.Get(s.url + "/dashboard/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var state struct {
			Series    struct{ Total struct{ Requests int } }
			Decisions []struct{ ID string }
		}
		if err := json.Unmarshal([]byte(data), &state); err != nil {
			t.Fatal(err)
		}
		if state.Series.Total.Requests != 1 || len(state.Decisions) != 1 {
			continue // the record is written after the answer
		}
		trace, err := http.Get(s.url + "/dashboard/decisions/" + state.Decisions[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		defer trace.Body.Close()
		if body, _ := io.ReadAll(trace.Body); trace.StatusCode != 200 || !strings.Contains(string(body), `"strategies"`) {
			t.Errorf("%d %s", trace.StatusCode, body)
		}
		return
	}
	t.Fatal("the stream ended before the request was shown")
}
