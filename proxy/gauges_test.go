package proxy_test

import (
	"context"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
)

// statedStore has a value of its own in each counter.
type statedStore struct{}

func (statedStore) Stats() budget.StoreStats {
	return budget.StoreStats{Up: true, Unenforced: 11, UnenforcedSpent: 12_500_000_000, Allotted: 13, Refused: 14, Failures: 15, Opened: 16,
		Corrupt: 17, Recovered: 18, Late: 19, Lost: 20, Unsent: 21, OldestUnsent: 22500 * time.Millisecond}
}

func TestMetricsTellOfTheSharedStore(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) { c.Store = statedStore{} })
	_, body := s.do(t, "GET", "/metrics", "")
	metrics := string(body)
	want := []string{
		"unenforced_total 11", "unenforced_usd_total 12.5", "allotted_total 13", "refused_total 14", "failed_calls_total 15",
		"breaker_openings_total 16", "corrupt_replies_total 17", "recoveries_total 18", "late_settlements_total 19",
		"lost_settlements_total 20", "unsent_settlements 21", "oldest_unsent_seconds 22.5",
	}
	for _, line := range want {
		if !strings.Contains(metrics, "\nrouter_ledger_"+line+"\n") {
			t.Errorf("no line router_ledger_%s", line)
		}
	}
	if fields := reflect.TypeFor[budget.StoreStats]().NumField(); fields != len(want)+1 { // Up is router_store_up
		t.Errorf("StoreStats has %d fields, %d metrics tell of it", fields, len(want))
	}

	alerts, err := os.ReadFile("../deploy/prometheus/ledger.yaml")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`router_ledger_\w+`).FindAllString(string(alerts), -1)
	if len(named) == 0 {
		t.Error("no alert names a metric")
	}
	for _, name := range named {
		if !strings.Contains(metrics, "\n"+name+" ") {
			t.Errorf("an alert watches %s, which there is not", name)
		}
	}
}

// allotting is a ledger of which replicas have set five cents aside.
type allotting struct{ proxy.Ledger }

func (a allotting) Reserve(ctx context.Context, h budget.Hold) (*budget.Reservation, error) {
	r, err := a.Ledger.Reserve(ctx, h)
	if err == nil {
		for i := range r.Budgets {
			r.Budgets[i].Allotted = 50_000_000
		}
	}
	return r, err
}

func TestBudgetsShowAllotmentsAsReserved(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Ledger = allotting{c.Ledger}
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 1e9}}
	})
	_, body := s.do(t, "GET", "/budgets", "")
	got := gjson.GetBytes([]byte(body), "budgets.0")
	if got.Get("reserved_usd").Num != 0.05 || got.Get("allotted_usd").Num != 0.05 || got.Get("remaining_usd").Num != 0.95 {
		t.Errorf("%s", got)
	}
}

func TestMetricsTellOfNoStoreWhereThereIsNone(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	if _, body := s.do(t, "GET", "/metrics", ""); strings.Contains(string(body), "router_ledger_") {
		t.Error("metrics of a shared store, where counters are in this process")
	}
}

func TestNewUsersPastTheBoundGet503(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Ledger = budget.NewMemory(budget.MemoryConfig{MaxUsers: 1})
		c.Books = c.Ledger.(*budget.Memory)
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	})
	const ask = `{"model":"auto","messages":[{"role":"user","content":"hi"}]}`
	for _, c := range []struct {
		user string
		want int
	}{{"ann", 200}, {"bob", 503}, {"ann", 200}} {
		resp, body := s.do(t, "POST", "/v1/chat/completions", ask, "X-Router-User", c.user)
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d %s", c.user, resp.StatusCode, body)
		}
		if c.want == 503 && (gjson.Get(string(body), "error.code").Str != "too_many_users" || !strings.Contains(string(body), "server.max_users")) {
			t.Errorf("%s", body)
		}
	}
}
