package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/inference-router/inference-router/budget"
)

// gauges are read when they are scraped: the health of upstreams and store,
// and what is under way.
type gauges struct{ s *Server }

var (
	healthyDesc  = prometheus.NewDesc("router_upstream_healthy", "Whether an upstream is tried in its turn.", []string{"tier", "upstream"}, nil)
	storeDesc    = prometheus.NewDesc("router_store_up", "Whether the shared store answers; 1 where counters are in this process.", nil, nil)
	inFlightDesc = prometheus.NewDesc("router_requests_in_flight", "Requests under way.", nil, nil)
	tierP90Desc  = prometheus.NewDesc("router_tier_p90_seconds", "Rolling 90th percentile of a tier's latency.", []string{"tier"}, nil)
	droppedDesc  = prometheus.NewDesc("router_log_dropped_total", "Lines of the decision log that found its queue full.", nil, nil)
)

// storeMetrics are what a shared ledger tells of itself.
var storeMetrics = []storeMetric{
	storeGauge("router_ledger_unsent_settlements", "Settlements that wait to be sent to the shared store.",
		func(s *budget.StoreStats) float64 { return float64(s.Unsent) }),
	storeGauge("router_ledger_oldest_unsent_seconds", "How long the oldest unsent settlement has waited.",
		func(s *budget.StoreStats) float64 { return s.OldestUnsent.Seconds() }),
	storeCounter("router_ledger_lost_settlements_total", "Settlements dropped: too many waited, or the store's counts were unreadable. Their requests stay charged as reserved.",
		func(s *budget.StoreStats) float64 { return float64(s.Lost) }),
	storeCounter("router_ledger_late_settlements_total", "Settlements sent too late to know whether they had counted before.",
		func(s *budget.StoreStats) float64 { return float64(s.Late) }),
	storeCounter("router_ledger_corrupt_replies_total", "Replies of the shared store that could not be read.",
		func(s *budget.StoreStats) float64 { return float64(s.Corrupt) }),
	storeCounter("router_ledger_recoveries_total", "Times this replica brought back what the shared store had lost.",
		func(s *budget.StoreStats) float64 { return float64(s.Recovered) }),
	storeCounter("router_ledger_breaker_openings_total", "Times the shared store was taken to be lost.",
		func(s *budget.StoreStats) float64 { return float64(s.Opened) }),
	storeCounter("router_ledger_failed_calls_total", "Round trips to the shared store that failed.",
		func(s *budget.StoreStats) float64 { return float64(s.Failures) }),
	storeCounter("router_ledger_refused_total", "Requests refused because the shared store was lost.",
		func(s *budget.StoreStats) float64 { return float64(s.Refused) }),
	storeCounter("router_ledger_allotted_total", "Requests admitted against an allotment, the shared store being lost.",
		func(s *budget.StoreStats) float64 { return float64(s.Allotted) }),
	storeCounter("router_ledger_unenforced_total", "Reservations let in unchecked, the shared store being lost.",
		func(s *budget.StoreStats) float64 { return float64(s.Unenforced) }),
	storeCounter("router_ledger_unenforced_usd_total", "US dollars charged to reservations let in unchecked.",
		func(s *budget.StoreStats) float64 { return float64(s.UnenforcedSpent) / 1e9 }),
}

type storeMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*budget.StoreStats) float64
}

func storeGauge(name, help string, value func(*budget.StoreStats) float64) storeMetric {
	return storeMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value}
}

func storeCounter(name, help string, value func(*budget.StoreStats) float64) storeMetric {
	return storeMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, value}
}

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{healthyDesc, storeDesc, inFlightDesc, tierP90Desc, droppedDesc} {
		ch <- d
	}
	for _, m := range storeMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	now := g.s.current.Load()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, t := range now.Router.Tiers() {
		if t.Samples > 0 {
			gauge(tierP90Desc, t.P90.Seconds(), t.Name)
		}
		for _, d := range t.Deployments {
			gauge(healthyDesc, oneIf(d.Healthy), t.Name, d.Name)
		}
	}
	gauge(storeDesc, oneIf(now.StoreUp == nil || now.StoreUp()))
	gauge(inFlightDesc, float64(g.s.flights.total.Load()))
	if w, ok := now.Decisions.(*AsyncWriter); ok {
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(w.Dropped()))
	}
	if now.Store != nil {
		stats := now.Store.Stats()
		for _, m := range storeMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&stats))
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
