package proxy

import "github.com/prometheus/client_golang/prometheus"

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

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{healthyDesc, storeDesc, inFlightDesc, tierP90Desc, droppedDesc} {
		ch <- d
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
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
