package proxy_test

import (
	"strings"
	"testing"

	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// weightedTier is one tier of many deployments, tried at random.
func weightedTier(t *testing.T) *stage {
	usage := translate.Usage{InputTokens: 5, OutputTokens: 5}
	tier := proxy.Tier{Name: "fast"}
	for _, name := range strings.Split("abcdefghij", "") {
		tier.Deployments = append(tier.Deployments, proxy.Deployment{Name: "test/" + name, Provider: "test", Model: name,
			Upstream: says("ok", usage), Price: price(1, 2)})
	}
	return newStage(t, []proxy.Tier{tier}, func(_ *proxy.Config, r *routing.Config) { r.Tiers[0].Balance = routing.BalanceWeighted })
}

// answered counts the upstreams that answer a dozen equal requests.
func (s *stage) answered(t *testing.T, path, body string, headers ...string) int {
	t.Helper()
	upstreams := map[string]bool{}
	for range 12 {
		resp, answer := s.post(t, path, body, headers...)
		if resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, answer)
		}
		upstreams[resp.Header.Get("X-Router-Model")] = true
	}
	return len(upstreams)
}

func TestAConversationStaysAtItsUpstreamByWhateverNamesIt(t *testing.T) {
	plain := chatBody("auto", "hi")
	keyed := func(key string) string { return chatBody("auto", "hi", `"prompt_cache_key":`+key) }
	for _, c := range []struct {
		name    string
		path    string
		body    string
		headers []string
		stays   bool
	}{
		{"nothing", "/v1/chat/completions", plain, nil, false},
		{"ours", "/v1/chat/completions", plain, []string{"X-Router-Session", "c1"}, true},
		{"Claude Code's", "/v1/chat/completions", plain, []string{"X-Claude-Code-Session-Id", "c1"}, true},
		{"session-id", "/v1/chat/completions", plain, []string{"Session-Id", "c1"}, true},
		{"the body's key", "/v1/chat/completions", keyed(`"c1"`), nil, true},
		{"the body's key, streamed", "/v1/chat/completions", chatBody("auto", "hi", `"prompt_cache_key":"c1","stream":true`), nil, true},
		{"the body's key in Responses", "/v1/responses", `{"model":"auto","input":"hi","prompt_cache_key":"c1"}`, nil, true},
		{"Claude Code's in Messages", "/v1/messages", `{"model":"auto","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}`, []string{"X-Claude-Code-Session-Id", "c1"}, true},
		{"a key that is no string", "/v1/chat/completions", keyed("7"), nil, false},
		{"a key that is null", "/v1/chat/completions", keyed("null"), nil, false},
		{"an empty key", "/v1/chat/completions", keyed(`""`), nil, false},
		{"a key with a control character", "/v1/chat/completions", keyed(`"a\u0000b"`), nil, false},
		{"a key too long", "/v1/chat/completions", keyed(`"` + strings.Repeat("k", 1025) + `"`), nil, false},
		{"a header too long", "/v1/chat/completions", plain, []string{"Session-Id", strings.Repeat("k", 1025)}, false},
		{"an empty header", "/v1/chat/completions", plain, []string{"Session-Id", ""}, false},
		{"a header that is not UTF-8", "/v1/chat/completions", plain, []string{"Session-Id", "\xff"}, false},
		{"a header sent twice", "/v1/chat/completions", plain, []string{"Session-Id", "a", "Session-Id", "b"}, false},
		{"an unfit key beside a header", "/v1/chat/completions", keyed(`""`), []string{"Session-Id", "c1"}, true},
		{"an unfit header beside another", "/v1/chat/completions", plain, []string{"X-Claude-Code-Session-Id", "\t\xff", "Session-Id", "c1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n := weightedTier(t).answered(t, c.path, c.body, c.headers...); (n == 1) != c.stays {
				t.Errorf("%d upstreams answered; want one: %v", n, c.stays)
			}
		})
	}
}

// Where several names are given the first in rank counts, so the others may
// change without moving the conversation.
func TestTheRankOfAConversationsNames(t *testing.T) {
	s := weightedTier(t)
	seen := map[string]bool{}
	ask := func(key string, headers ...string) {
		t.Helper()
		body := chatBody("auto", "hi", `"prompt_cache_key":"`+key+`"`)
		resp, answer := s.post(t, "/v1/chat/completions", body, headers...)
		if resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, answer)
		}
		seen[resp.Header.Get("X-Router-Model")] = true
	}
	for i := range 12 {
		n := strings.Repeat("x", i+1)
		ask(n, "X-Router-Session", "c1", "Session-Id", n)
	}
	if len(seen) != 1 {
		t.Errorf("X-Router-Session does not come first: %d upstreams", len(seen))
	}
	clear(seen)
	for i := range 12 {
		ask("c2", "X-Claude-Code-Session-Id", strings.Repeat("x", i+1))
	}
	if len(seen) != 1 {
		t.Errorf("prompt_cache_key does not come before an agent's header: %d upstreams", len(seen))
	}
	if n := s.answered(t, "/v1/chat/completions", chatBody("auto", "hi"), "X-Claude-Code-Session-Id", "c3", "Session-Id", "c4"); n != 1 {
		t.Errorf("%d upstreams", n)
	}
}

func TestAConversationIsAUsersOwn(t *testing.T) {
	s := weightedTier(t)
	upstreams := map[string]bool{}
	for i := range 40 {
		resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"prompt_cache_key":"c1"`), "X-Router-User", strings.Repeat("u", i+1))
		upstreams[resp.Header.Get("X-Router-Model")] = true
	}
	if len(upstreams) < 2 {
		t.Error("forty users of one key share a conversation")
	}
}
