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

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
)

// spenders lists the users that the ledger has seen.
func (s *stage) spenders() string {
	var users []string
	for _, b := range s.ledger.Known() {
		if b.Limit.Scope == budget.ScopeUser && b.Spent > 0 {
			users = append(users, b.Limit.Subject)
		}
	}
	return strings.Join(users, ",")
}

func withIdentity(i proxy.Identity) func(*proxy.Config, *routing.Config) {
	return func(c *proxy.Config, _ *routing.Config) {
		c.Identity = i
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	}
}

func TestSidecarBelievesHeadersThenTheBody(t *testing.T) {
	for _, c := range []struct {
		name, want string
		extra      []string
		headers    []string
	}{
		{"nobody is anonymous", "anonymous", nil, nil},
		{"a header", "ann", []string{`"user":"bob"`, `"metadata":{"user_id":"carl"}`}, []string{"X-Router-User", "ann"}},
		{"else metadata", "carl", []string{`"user":"bob"`, `"metadata":{"user_id":"carl"}`}, nil},
		{"else user", "bob", []string{`"user":"bob"`, `"safety_identifier":"dan"`}, nil},
		{"else safety_identifier", "dan", []string{`"safety_identifier":"dan"`}, nil},
		{"header names are case-insensitive", "ann", nil, []string{"x-ROUTER-user", "ann"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, threeTiers(), withIdentity(proxy.Identity{}))
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", c.extra...), c.headers...)
			if got := s.spenders(); resp.StatusCode != 200 || got != c.want {
				t.Errorf("%d, charged %q, want %q: %s", resp.StatusCode, got, c.want, body)
			}
		})
	}
}

func TestAnonymousRequestsCanBeRefused(t *testing.T) {
	s := newStage(t, threeTiers(), withIdentity(proxy.Identity{RejectAnonymous: true}))
	resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
	wantError(t, resp, body, 401, "authentication_error", "user_required")
	if resp, _ = s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"user":"ann"`)); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestTrustedProxyRefusesIdentityFromOthers(t *testing.T) {
	trusted := newStage(t, threeTiers(), withIdentity(proxy.Identity{Mode: proxy.ModeTrustedProxy, TrustedCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
	if resp, _ := trusted.post(t, "/v1/chat/completions", chatBody("auto", "hi"), "X-Router-User", "ann"); resp.StatusCode != 200 || trusted.spenders() != "ann" {
		t.Errorf("got %d, charged %q", resp.StatusCode, trusted.spenders())
	}
	other := newStage(t, threeTiers(), withIdentity(proxy.Identity{Mode: proxy.ModeTrustedProxy, TrustedCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}))
	resp, body := other.post(t, "/v1/chat/completions", chatBody("auto", "hi"), "X-Router-User", "ann", "X-Forwarded-For", "10.0.0.1")
	wantError(t, resp, body, 403, "permission_error", "permission_denied")
	if resp, _ := other.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"user":"ann"`)); resp.StatusCode != 200 || other.spenders() != "anonymous" {
		t.Errorf("the body of a stranger names nobody: got %d, charged %q", resp.StatusCode, other.spenders())
	}
	resp, body = other.do(t, "GET", "/metrics", "")
	wantError(t, resp, body, 403, "permission_error", "permission_denied")
	if resp, _ = other.do(t, "GET", "/dashboard", "", "Accept", "text/html"); resp.StatusCode != 401 || resp.Header.Get("Www-Authenticate") == "" {
		t.Errorf("a browser is asked for a password: got %d", resp.StatusCode)
	}
}

func keyed() proxy.Identity {
	key := func(secret string, k proxy.Key) proxy.Key { k.SHA256 = sha256.Sum256([]byte(secret)); return k }
	return proxy.Identity{Mode: proxy.ModeKeys, Keys: []proxy.Key{
		key("sk-ann", proxy.Key{Name: "ann-key", User: "ann", Tiers: []string{"fast"}}),
		key("sk-any", proxy.Key{Name: "any-key", User: "*"}),
		key("sk-poor", proxy.Key{Name: "poor-key", User: "poor", HasBudget: true, Budget: 0}),
		key("sk-root", proxy.Key{Name: "root", Admin: true}),
	}}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name       string
		key        string
		model      string
		headers    []string
		status     int
		kind, code string
		user       string
	}{
		{"no key", "", "auto", nil, 401, "authentication_error", "invalid_api_key", ""},
		{"a wrong key", "sk-ann2", "auto", nil, 401, "authentication_error", "invalid_api_key", ""},
		{"a key's prefix", "sk-an", "auto", nil, 401, "authentication_error", "invalid_api_key", ""},
		{"the key's user", "sk-ann", "auto", nil, 200, "", "", "ann"},
		{"the same user by header", "sk-ann", "auto", []string{"X-Router-User", "ann"}, 200, "", "", "ann"},
		{"another user by header", "sk-ann", "auto", []string{"X-Router-User", "eve"}, 403, "permission_error", "permission_denied", ""},
		{"a tier the key may not use", "sk-ann", "powerful", nil, 403, "permission_error", "permission_denied", ""},
		{"an upstream of such a tier", "sk-ann", "test/powerful", nil, 403, "permission_error", "permission_denied", ""},
		{"any user", "sk-any", "auto", []string{"X-Router-User", "zoe"}, 200, "", "", "zoe"},
		{"a key without a user speaks for itself", "sk-root", "auto", nil, 200, "", "", "root"},
		{"the key's own budget", "sk-poor", "auto", nil, 429, "insufficient_quota", "budget_exceeded", ""},
		{"a wider header budget changes nothing", "sk-poor", "auto", []string{"X-Router-Budget-USD", "100"}, 429, "insufficient_quota", "budget_exceeded", ""},
		{"a narrower header budget holds", "sk-any", "auto", []string{"X-Router-User", "zoe", "X-Router-Budget-USD", "0"}, 429, "insufficient_quota", "budget_exceeded", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, threeTiers(), withIdentity(keyed()))
			resp, body := s.post(t, "/v1/chat/completions", chatBody(c.model, "hi", `"user":"mallory"`), append(c.headers, "Authorization", "Bearer "+c.key)...)
			if c.status != 200 {
				wantError(t, resp, body, c.status, c.kind, c.code)
			} else if resp.StatusCode != 200 {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if got := s.spenders(); got != c.user {
				t.Errorf("charged %q, want %q", got, c.user)
			}
		})
	}
}

func TestKeyModeGuardsEveryRoute(t *testing.T) {
	s := newStage(t, threeTiers(), withIdentity(keyed()))
	open := map[string]bool{"/": true, "/livez": true, "/readyz": true, "/healthz": true, "/docs": true, "/openapi.json": true}
	admin := map[string]bool{"/dashboard": true, "/metrics": true, "/budgets": true, "/stats/reset": true}
	for _, r := range [][2]string{
		{"POST", "/v1/chat/completions"}, {"POST", "/v1/embeddings"}, {"GET", "/v1/models"}, {"GET", "/v1/models/auto"}, {"POST", "/v1/route"},
		{"GET", "/"}, {"POST", "/query"}, {"POST", "/query/stream"}, {"GET", "/tiers"}, {"POST", "/debug/complexity"}, {"DELETE", "/stats/reset"},
		{"GET", "/docs"}, {"GET", "/openapi.json"}, {"GET", "/dashboard"}, {"GET", "/livez"}, {"GET", "/readyz"}, {"GET", "/healthz"},
		{"GET", "/metrics"}, {"GET", "/budgets"},
	} {
		resp, body := s.do(t, r[0], r[1], `{"model":"auto","messages":[{"role":"user","content":"hi"}],"prompt":"hi"}`)
		if open[r[1]] {
			if resp.StatusCode != 200 {
				t.Errorf("%s %s without a key: got %d", r[0], r[1], resp.StatusCode)
			}
			continue
		}
		wantError(t, resp, body, 401, "authentication_error", "invalid_api_key")
		resp, body = s.do(t, r[0], r[1], `{"model":"auto","messages":[{"role":"user","content":"hi"}],"prompt":"hi"}`, "Authorization", "Bearer sk-ann")
		if admin[r[1]] {
			wantError(t, resp, body, 403, "permission_error", "permission_denied")
			if resp, _ = s.do(t, r[0], r[1], "", "Authorization", "Bearer sk-root"); resp.StatusCode != 200 {
				t.Errorf("%s with an admin's key: got %d", r[1], resp.StatusCode)
			}
		} else if resp.StatusCode == 401 || resp.StatusCode == 403 {
			t.Errorf("%s %s with a key: got %d %s", r[0], r[1], resp.StatusCode, body)
		}
	}
}

func sign(secret, id, user, usd string, at time.Time) string {
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "v1\n%s\n%d\n%s\n%s", id, at.Unix(), user, usd)
	return fmt.Sprintf("t=%d,k=%s,v1=%s", at.Unix(), id, hex.EncodeToString(m.Sum(nil)))
}

func TestSignedHeaders(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name      string
		user, usd string
		signature string
		status    int
		charged   string
	}{
		{"valid", "ann", "0.5", sign("s3cret", "k1", "ann", "0.5", now), 200, "ann"},
		{"valid without a budget", "ann", "", sign("s3cret", "k1", "ann", "", now), 200, "ann"},
		{"almost five minutes old", "ann", "", sign("s3cret", "k1", "ann", "", now.Add(-290*time.Second)), 200, "ann"},
		{"older than five minutes", "ann", "", sign("s3cret", "k1", "ann", "", now.Add(-310*time.Second)), 401, ""},
		{"a little ahead", "ann", "", sign("s3cret", "k1", "ann", "", now.Add(50*time.Second)), 200, "ann"},
		{"too far ahead", "ann", "", sign("s3cret", "k1", "ann", "", now.Add(70*time.Second)), 401, ""},
		{"an unknown key", "ann", "", sign("s3cret", "k2", "ann", "", now), 401, ""},
		{"another secret", "ann", "", sign("other", "k1", "ann", "", now), 401, ""},
		{"another user", "eve", "", sign("s3cret", "k1", "ann", "", now), 401, ""},
		{"another budget", "ann", "5", sign("s3cret", "k1", "ann", "0.5", now), 401, ""},
		{"no signature", "ann", "", "", 401, ""},
		{"rubbish", "ann", "", "t=x,k=,v1=zz", 401, ""},
		{"nothing at all", "", "", "", 200, "anonymous"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, threeTiers(), withIdentity(proxy.Identity{Mode: proxy.ModeSigned, SigningKeys: []proxy.SigningKey{{ID: "k1", Secret: []byte("s3cret")}}}))
			var headers []string
			for name, v := range map[string]string{"X-Router-User": c.user, "X-Router-Budget-Usd": c.usd, "X-Router-Signature": c.signature} {
				if v != "" {
					headers = append(headers, name, v)
				}
			}
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"user":"mallory"`), headers...)
			if resp.StatusCode != c.status || s.spenders() != c.charged {
				t.Errorf("got %d, charged %q: %s", resp.StatusCode, s.spenders(), body)
			}
		})
	}
}

func TestOwnHeadersAreStrict(t *testing.T) {
	s := newStage(t, threeTiers(), withIdentity(proxy.Identity{}))
	for _, c := range []struct {
		name    string
		headers []string
		code    string
	}{
		{"a repeated header", []string{"X-Router-User", "a", "X-Router-User", "b"}, ""},
		{"an underscore", []string{"X_Router_User", "a"}, ""},
		{"an empty value", []string{"X-Router-User", ""}, ""},
		{"a long user", []string{"X-Router-User", strings.Repeat("x", 257)}, ""},
		{"no UTF-8", []string{"X-Router-User", "\xff"}, ""},
		{"a negative budget", []string{"X-Router-Budget-Usd", "-1"}, ""},
		{"NaN", []string{"X-Router-Budget-Usd", "NaN"}, ""},
		{"an exponent", []string{"X-Router-Budget-Usd", "1e9"}, ""},
		{"a plus", []string{"X-Router-Budget-Usd", "+5"}, ""},
		{"Arabic digits", []string{"X-Router-Budget-Usd", "٥"}, ""},
		{"ten places", []string{"X-Router-Budget-Usd", "0.0000000001"}, ""},
		{"nine million", []string{"X-Router-Budget-Usd", "9000000"}, ""},
		{"a rubbish ceiling", []string{"X-Router-Max-Cost-Usd", "cheap"}, ""},
		{"an unknown tier", []string{"X-Router-Tier", "warp"}, "tier_not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"), c.headers...)
			if got := gjson.Get(body, "error.code").Str; resp.StatusCode != 400 || got != c.code || gjson.Get(body, "error.param").Str == "" {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
	if s.spenders() != "" {
		t.Errorf("charged %q", s.spenders())
	}
}

func TestConnectionHeaderStripsNothingOfOurs(t *testing.T) {
	s := newStage(t, threeTiers(), withIdentity(proxy.Identity{}))
	resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"), "X-Router-User", "ann", "X-Router-Budget-Usd", "0", "Connection", "X-Router-User, X-Router-Budget-Usd")
	if resp.StatusCode != 429 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// A key that may not use a tier is not told what is in it.
func TestModelsOfAKeyAreThoseItMayUse(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Identity = proxy.Identity{Mode: proxy.ModeKeys, Keys: []proxy.Key{{Name: "k", SHA256: sha256.Sum256([]byte("key")), Tiers: []string{"fast"}}}}
		c.Models.Aliases = map[string]string{"small": "fast", "large": "powerful", "largest": "test/powerful", "any": "auto"}
	})
	_, body := s.do(t, "GET", "/v1/models", "", "Authorization", "Bearer key")
	if got, want := gjson.Get(body, "data.#.id").Raw, `["auto","fast","any","small","test/fast"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for id, want := range map[string]int{"fast-model": 200, "small": 200, "powerful-model": 404, "large": 404, "test/powerful": 404, "powerful": 404} {
		if resp, body := s.do(t, "GET", "/v1/models/"+id, "", "Authorization", "Bearer key"); resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d: %s", id, resp.StatusCode, want, body)
		}
	}
}
