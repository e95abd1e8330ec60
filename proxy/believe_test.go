package proxy_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
)

// signature is what an application adds to the headers that it sets.
func signature(user, amount string) string {
	at := fmt.Sprint(time.Now().Unix())
	m := hmac.New(sha256.New, []byte("secret"))
	fmt.Fprintf(m, "v1\nk1\n%s\n%s\n%s", at, user, amount)
	return "t=" + at + ",k=k1,v1=" + hex.EncodeToString(m.Sum(nil))
}

// behind is a stage whose users are named by a program in front of it, with a
// hard budget of a dollar for each.
func behind(t *testing.T, mode proxy.Mode, body bool) *stage {
	t.Helper()
	return newStage(t, threeTiers(), func(p *proxy.Config, _ *routing.Config) {
		p.Identity = proxy.Identity{Mode: mode, Body: body,
			TrustedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")},
			SigningKeys:  []proxy.SigningKey{{ID: "k1", Secret: []byte("secret")}}}
		p.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	})
}

func TestAUserBehindAProgramCannotRaiseHisOwnLimitInTheBody(t *testing.T) {
	for _, mode := range []proxy.Mode{proxy.ModeTrustedProxy, proxy.ModeSigned} {
		for _, c := range []struct {
			name, metadata string
			body           bool
			remaining      string // of the user's dollar, at most
			least          string
		}{
			{"a larger budget", `"metadata":{"budget_usd":5000}`, false, "1", "0.9"},
			{"another user", `"metadata":{"user_id":"bob","budget_usd":"5000"},"user":"bob","safety_identifier":"bob"`, false, "1", "0.9"},
			{"a larger budget, the body being asked", `"metadata":{"budget_usd":5000}`, true, "1", "0.9"},
			{"a smaller one, the body being asked", `"metadata":{"budget_usd":0.5}`, true, "0.5", "0.4"},
			{"a smaller one, the body not being asked", `"metadata":{"budget_usd":0.5}`, false, "1", "0.9"},
		} {
			t.Run(string(mode)+": "+c.name, func(t *testing.T) {
				s := behind(t, mode, c.body)
				headers := []string{"X-Router-User", "ann"}
				if mode == proxy.ModeSigned {
					headers = append(headers, "X-Router-Signature", signature("ann", ""))
				}
				resp, answer := s.post(t, "/v1/chat/completions", chatBody("auto", "hello", `"max_tokens":10`, c.metadata), headers...)
				left := resp.Header.Get("X-Router-Budget-Remaining-Usd")
				if resp.StatusCode != 200 || left > c.remaining || left < c.least {
					t.Errorf("status %d, $%s left of at most $%s: %s", resp.StatusCode, left, c.remaining, answer)
				}
				states, err := s.ledger.Status(t.Context(), []budget.Limit{{Scope: budget.ScopeUser, Subject: "bob", Amount: 1e9}})
				if err != nil || states[0].Spent != 0 {
					t.Errorf("bob has paid $%s, %v", states[0].Spent.USD(), err)
				}
			})
		}
	}
}

func TestACredentialComesInAnyOfTheUsualHeaders(t *testing.T) {
	s := newStage(t, threeTiers(), func(p *proxy.Config, _ *routing.Config) {
		p.Identity = proxy.Identity{Mode: proxy.ModeKeys, Keys: []proxy.Key{{Name: "app", SHA256: sha256.Sum256([]byte("sk-app"))}}}
	})
	for _, header := range [][]string{{"Authorization", "Bearer sk-app"}, {"X-Api-Key", "sk-app"}, {"Api-Key", "sk-app"}} {
		if resp, answer := s.post(t, "/v1/chat/completions", chatBody("auto", "hello"), header...); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", header[0], resp.StatusCode, answer)
		}
	}
	if resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "hello"), "X-Api-Key", "sk-other"); resp.StatusCode != 401 {
		t.Errorf("another key: %d", resp.StatusCode)
	}
}

func TestCharactersThatMisleadAreRefusedInOurHeaders(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	for name, user := range map[string]string{"C1": "ann\u0085", "override": "ann\u202etxt", "isolate": "\u2066ann", "mark": "ann\u200f", "Arabic mark": "\u061cann", "line": "ann\u2028"} {
		for _, header := range []string{"X-Router-User", "X-Router-Tags", "X-Router-Session"} {
			if resp, answer := s.post(t, "/v1/chat/completions", chatBody("auto", "hello"), header, user); resp.StatusCode != 400 {
				t.Errorf("%s in %s: %d %s", name, header, resp.StatusCode, answer)
			}
		}
	}
	if resp, answer := s.post(t, "/v1/chat/completions", chatBody("auto", "hello"), "X-Router-User", "Zoë 李"); resp.StatusCode != 200 {
		t.Errorf("letters of any script: %d %s", resp.StatusCode, answer)
	}
}

func TestPagesOfOtherSitesAreRefusedOnALoopbackListener(t *testing.T) {
	s := newStage(t, threeTiers(), func(p *proxy.Config, _ *routing.Config) { p.Loopback = true })
	for site, want := range map[string]int{"cross-site": 403, "Cross-Site": 403, "same-origin": 200, "none": 200} {
		if resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "hello"), "Sec-Fetch-Site", site); resp.StatusCode != want {
			t.Errorf("%s: %d, expected %d", site, resp.StatusCode, want)
		}
	}
}

func TestBodiesThatTakeManyTimesTheirSizeAreRefusedBeforeTheyAreDecoded(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	many := func(unit string) string { return "[" + strings.Repeat(unit+",", 1<<20) + unit + "]" }
	var members strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&members, `,"m%d":1`, i)
	}
	for _, route := range []string{"/query", "/query/stream", "/debug/complexity", "/v1/embeddings", "/v1/route", "/v1/chat/completions"} {
		for name, rest := range map[string]string{
			"arrays": `,"messages":` + many("[]") + `,"input":` + many("[]"), "scalars": `,"messages":` + many("1"),
			"members": members.String(), "depth": `,"messages":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
			"objects": `,"messages":[{"role":"user","content":"x","y":` + many(`{"a":[]}`) + `}],"metadata":` + many(`{}`),
		} {
			if name == "members" && (route == "/v1/chat/completions" || route == "/v1/route") {
				continue // an open set: what we do not know goes to the upstream as it is
			}
			body := `{"prompt":"x","model":"auto"` + rest + `}`
			before := testing.AllocsPerRun(1, func() {
				if resp, answer := s.post(t, route, body); resp.StatusCode != 400 && resp.StatusCode != 404 {
					t.Errorf("%s, %s: %d %.200s", route, name, resp.StatusCode, answer)
				}
			})
			if before > 20_000 {
				t.Errorf("%s, %s: %v allocations", route, name, before)
			}
		}
	}
}
