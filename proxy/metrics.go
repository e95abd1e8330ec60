package proxy

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/inference-router/inference-router/budget"
)

// metrics are the server's counters. Every label's values come from the
// configuration, never from a request, so that their number is bounded.
type metrics struct {
	registry *prometheus.Registry

	requests   *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	fallbacks  prometheus.Counter
	cost       *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	usedRatio  *prometheus.GaugeVec
	overhead   prometheus.Histogram
	unenforced prometheus.Counter
	unknown    prometheus.Counter
	noUsage    prometheus.Counter
	oddUsage   prometheus.Counter
	overHold   prometheus.Counter
	malformed  prometheus.Counter
	panics     prometheus.Counter
	duration   *prometheus.HistogramVec
	tokens     *prometheus.HistogramVec
	ttft       *prometheus.HistogramVec

	mu          sync.Mutex
	deployments map[[2]string]*deploymentCounters // by tier and name
}

// deploymentCounters are the counters of one deployment, resolved once.
type deploymentCounters struct {
	cost        prometheus.Counter
	duration    prometheus.Observer
	inputTokens prometheus.Observer
	outputToken prometheus.Observer
	ttft        prometheus.Observer
	statuses    sync.Map // by int status: prometheus.Counter
}

// Bucket bounds as the OpenTelemetry GenAI conventions advise.
var (
	secondsBuckets = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
	ttftBuckets    = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	tokenBuckets   = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
)

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		deployments: map[[2]string]*deploymentCounters{},
		requests:    counters("router_requests_total", "Requests answered, by tier, upstream and HTTP status.", "tier", "upstream", "status"),
		decisions:   counters("router_decisions_total", "Decisions, by strategy and tier.", "strategy", "tier"),
		fallbacks:   counter("router_fallbacks_total", "Requests answered by another tier than the decided one, because of a failure."),
		cost:        counters("router_cost_usd_total", "US dollars charged.", "tier", "upstream"),
		attempts:    counters("router_attempts_total", "Upstream calls, by how they ended.", "tier", "upstream", "outcome"),
		usedRatio:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "router_budget_used_ratio", Help: "Share of a budget that is spent; of the user and key scopes, that of the latest request."}, []string{"scope"}),
		overhead: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "router_overhead_seconds", Help: "Time a request spent in the router itself.",
			Buckets: []float64{.00001, .00002, .00005, .0001, .0002, .0005, .001, .002, .005, .01, .05}}),
		unenforced: counter("router_unenforced_total", "Requests admitted without their budget being checked, the store being lost and the policy open."),
		unknown:    counter("router_unknown_outcome_total", "Upstream calls that were written and never answered; charged in full."),
		noUsage:    counter("router_usage_missing_total", "Answers without usage; charged by a bound of their size."),
		oddUsage:   counter("router_usage_anomaly_total", "Answers whose usage cannot be true; charged as if it were missing."),
		overHold:   counter("router_over_reservation_total", "Answers that cost more than their worst case."),
		malformed:  counter("router_malformed_events_total", "Stream events of upstreams that were not JSON, relayed as they came."),
		panics:     counter("router_panics_total", "Panics recovered."),
		duration: histograms("gen_ai_client_operation_duration_seconds", "Duration of upstream operations.", secondsBuckets,
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
		tokens: histograms("gen_ai_client_token_usage", "Tokens per operation.", tokenBuckets,
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_token_type"),
		ttft: histograms("gen_ai_server_time_to_first_token_seconds", "Time to the first event of a stream.", ttftBuckets,
			"gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.decisions, m.fallbacks, m.cost, m.attempts, m.usedRatio, m.overhead, m.unenforced, m.unknown, m.noUsage,
		m.oddUsage, m.overHold, m.malformed, m.panics, m.duration, m.tokens, m.ttft)
	return m
}

// deployment resolves the counters of one deployment.
func (m *metrics) deployment(tier string, d *Deployment) *deploymentCounters {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := [2]string{tier, d.Name}
	if c := m.deployments[id]; c != nil {
		return c
	}
	operation := "chat"
	if tier == embeddingTier {
		operation = "embeddings"
	}
	c := &deploymentCounters{
		cost:        m.cost.WithLabelValues(tier, d.Name),
		duration:    m.duration.WithLabelValues(operation, d.Provider, d.Model),
		inputTokens: m.tokens.WithLabelValues(operation, d.Provider, d.Model, "input"),
		outputToken: m.tokens.WithLabelValues(operation, d.Provider, d.Model, "output"),
		ttft:        m.ttft.WithLabelValues(operation, d.Provider, d.Model),
	}
	m.deployments[id] = c
	return c
}

// status counts a request answered by c's deployment.
func (m *metrics) status(c *deploymentCounters, tier, upstream string, status int) {
	n, known := c.statuses.Load(status)
	if !known {
		n, _ = c.statuses.LoadOrStore(status, m.requests.WithLabelValues(tier, upstream, strconv.Itoa(status)))
	}
	n.(prometheus.Counter).Inc()
}

// observe counts one finished request.
func (m *metrics) observe(r *Record) {
	if r.answered != nil {
		m.status(r.answered.counters, r.answered.tier, r.answered.Name, r.Status)
	} else {
		m.requests.WithLabelValues(r.Tier, "", strconv.Itoa(r.Status)).Inc()
	}
	m.decisions.WithLabelValues(r.Strategy, r.decided).Inc()
	if r.Fallback {
		m.fallbacks.Inc()
	}
	m.overhead.Observe(r.overhead.Seconds())
	for _, b := range r.remaining {
		m.usedRatio.WithLabelValues(string(b.Limit.Scope)).Set(b.Used())
	}
}

// knownOutcomes are how upstream calls end, but for the client's own mistakes:
// those have the codes that upstreams think of, and are counted as one.
var knownOutcomes = map[string]bool{
	"ok": true, "client_closed_request": true, "server_shutdown": true, "internal_error": true, "model_not_found": true,
	"rate_limit_exceeded": true, "stream_idle_timeout": true, "stream_interrupted": true, "malformed_model_output": true,
	"upstream_auth_error": true, "upstream_bad_chunk": true, "upstream_bad_response": true, "upstream_connect_timeout": true,
	"upstream_dns_error": true, "upstream_error": true, "upstream_overloaded": true, "upstream_quota_exceeded": true,
	"upstream_redirect": true, "upstream_reset": true, "upstream_timeout": true, "upstream_tls_error": true,
	"upstream_too_large": true, "upstream_truncated": true, "upstream_unavailable": true,
}

// call counts one finished upstream call.
func (m *metrics) call(d *deployment, outcome string, t TokenRecord, cost budget.Nanodollars, took, ttft time.Duration) {
	if !knownOutcomes[outcome] {
		outcome = "invalid_request"
	}
	m.attempts.WithLabelValues(d.tier, d.Name, outcome).Inc()
	d.counters.cost.Add(float64(cost) / 1e9)
	d.counters.duration.Observe(took.Seconds())
	if t.Input > 0 {
		d.counters.inputTokens.Observe(float64(t.Input))
		d.counters.outputToken.Observe(float64(t.Output))
	}
	if ttft > 0 {
		d.counters.ttft.Observe(ttft.Seconds())
	}
}

// handler serves /metrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
