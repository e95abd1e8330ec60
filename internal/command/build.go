package command

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/inference-router/inference-router/internal/config"
	"github.com/inference-router/inference-router/internal/measure"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// builder turns a configuration into the parts of the proxy. It keeps what
// outlives a configuration: counters, what routing has learned, the decision log.
type builder struct {
	log       *slog.Logger
	ledger    ledger
	storeUp   func() bool // nil without a shared store
	store     proxy.Store // as storeUp
	state     *routing.State
	decisions *decisionLog                  // nil where nothing is served
	ends      []func(context.Context) error // what close does, last first
	// faults is the share of calls that simulated upstreams fail, and seed what
	// they draw from.
	faults float64
	seed   uint64
	// seal closes reasoning that clients carry back.
	seal *translate.Seal
}

// ledger is what both kinds of ledger are to the proxy.
type ledger interface {
	proxy.Ledger
	proxy.Books
}

func newBuilder(c *config.Config, log *slog.Logger) (*builder, error) {
	b := &builder{log: log, state: routing.NewState(), decisions: newDecisionLog()}
	b.atEnd(func(context.Context) error { return b.decisions.close() })
	if err := b.openSeal(c); err != nil {
		return nil, err
	}
	if c.Redis.URL == "" {
		b.ledger = budget.NewMemory(budget.MemoryConfig{Lease: time.Duration(c.Redis.Lease), MaxUsers: c.Server.MaxUsers})
		return b, nil
	}
	if err := b.openRedis(c); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// openSeal makes the seal of the configured key. Without one, reasoning that
// clients carry back is understood by this process only, until it ends.
func (b *builder) openSeal(c *config.Config) (err error) {
	key := []byte(c.Responses.Key.Reveal())
	if len(key) == 0 {
		key = []byte(rand.Text())
		b.log.Info("responses.key is not set: one was made for this process; reasoning that clients carry back is dropped by other replicas and after a restart")
	}
	b.seal, err = translate.NewSeal(key)
	return err
}

func (b *builder) atEnd(do func(context.Context) error) { b.ends = append(b.ends, do) }

// settleTime is how long the ledger has to send its last settlements.
const settleTime = 5 * time.Second

// close writes and sends what is left to, once no request is running.
func (b *builder) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	var all error
	for _, end := range slices.Backward(b.ends) {
		all = errors.Join(all, end(ctx))
	}
	return all
}

// build makes the proxy's configuration. It changes nothing that is in use.
func (b *builder) build(c *config.Config) (proxy.Config, error) {
	router, err := b.router(c)
	if err != nil {
		return proxy.Config{}, err
	}
	version, _ := buildVersion()
	out := proxy.Config{
		Version:      version,
		Fallback:     c.Fallback,
		Router:       router,
		Ledger:       b.ledger,
		Books:        b.ledger,
		Models:       proxy.Models{Aliases: c.Models.Aliases, RejectUnknown: c.Models.Unknown == "reject"},
		MaxBodyBytes: c.Server.MaxBodyBytes,
		Loopback:     isLocal(c.Server.Listen),

		AdminLoopback: isLocal(c.Server.AdminListen),
		Hosts:         c.Server.Hosts,
		AdminApart:    c.Server.AdminListen != "",
		Timeouts:      proxyTimeouts(c.Timeouts),
		Retries: proxy.Retries{
			MaxAttempts:  c.Retries.MaxAttempts,
			Budget:       c.Retries.Budget,
			NeverUnknown: c.Retries.OnUnknown == "never",

			RejectUnsupported: c.Translate.Unsupported == "reject",
		},
		Lease:      time.Duration(c.Redis.Lease),
		StoreUp:    b.storeUp,
		Store:      b.store,
		Log:        b.log,
		PlainUsers: c.Log.Users == "plain",
		UsersKey:   []byte(c.Log.UsersKey.Reveal()),
		Seal:       b.seal,
		Origins:    c.Server.CORS.Origins,
	}
	if c.Retries.Budget == 0 {
		out.Retries.Budget = -1 // 0 is the default there
	}
	if c.Log.Decisions != "" && b.decisions != nil {
		out.Decisions = b.decisions.queue
	}
	if out.Tiers, err = b.tiers(c); err != nil {
		return proxy.Config{}, err
	}
	if out.Embeddings, err = b.embeddings(c); err != nil {
		return proxy.Config{}, err
	}
	if out.Budgets, err = proxyBudgets(c); err != nil {
		return proxy.Config{}, err
	}
	out.Identity, err = proxyIdentity(&c.Identity)
	return out, err
}

// isLocal reports whether only this machine can connect to a listener over TCP,
// so that a foreign Host can only come from a web page that tries its luck.
func isLocal(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && config.IsLoopback(host)
}

func proxyTimeouts(t config.Timeouts) proxy.Timeouts {
	return proxy.Timeouts{FirstEvent: time.Duration(t.FirstEvent), Idle: time.Duration(t.Idle), Total: time.Duration(t.Total)}
}

func proxyBudgets(c *config.Config) ([]proxy.Budget, error) {
	var all []proxy.Budget
	for i, b := range c.AllBudgets() {
		zone, err := time.LoadLocation(b.Timezone)
		if err != nil {
			return nil, config.Problems{c.Problem(fmt.Sprintf("budgets[%d].timezone", i), "%v", err)}
		}
		window, err := budget.ParseWindow(b.Per, zone)
		if err != nil {
			return nil, config.Problems{c.Problem(fmt.Sprintf("budgets[%d].per", i), "%v", err)}
		}
		all = append(all, proxy.Budget{
			Scope:  budget.Scope(b.Scope),
			Amount: budget.Nanodollars(*b.USD),
			Window: window,
			Hard:   b.OnExhausted == "reject",
		})
	}
	return all, nil
}

func proxyIdentity(id *config.Identity) (proxy.Identity, error) {
	out := proxy.Identity{Mode: proxy.Mode(id.Mode), RejectAnonymous: id.Anonymous == "reject", Body: id.Body}
	for _, text := range id.TrustedCIDRs {
		cidr, err := config.ParseCIDR(text)
		if err != nil {
			return out, err
		}
		out.TrustedCIDRs = append(out.TrustedCIDRs, cidr)
	}
	for _, s := range id.SigningKeys {
		out.SigningKeys = append(out.SigningKeys, proxy.SigningKey{ID: s.ID, Secret: []byte(s.Secret.Reveal())})
	}
	for _, k := range id.Keys {
		key := proxy.Key{Name: k.Name, User: k.User, Tiers: k.Tiers, Admin: k.Admin, SHA256: sha256.Sum256([]byte(k.Key.Reveal()))}
		if k.SHA256 != "" {
			if _, err := hex.Decode(key.SHA256[:], []byte(k.SHA256.Reveal())); err != nil {
				return out, errors.New("identity.keys: sha256 is not hexadecimal")
			}
		}
		if k.Budget != nil {
			key.Budget, key.HasBudget = budget.Nanodollars(*k.Budget), true
		}
		out.Keys = append(out.Keys, key)
	}
	return out, nil
}

func (b *builder) tiers(c *config.Config) ([]proxy.Tier, error) {
	var tiers []proxy.Tier
	for rank, t := range c.Tiers {
		tier := proxy.Tier{Name: t.Name, MaxOutput: t.MaxOutputTokens, SLA: c.SLA(t.Name)}
		for i := range t.Upstreams {
			u := &t.Upstreams[i]
			client, err := b.upstream(c, u, t.Name, float64(rank)/float64(max(1, len(c.Tiers)-1)))
			if err != nil {
				return nil, config.Problems{c.Problem(u.Path, "%v", err)}
			}
			d := deployment(u)
			d.Upstream = client
			d.Dialects, d.Extended = dialects(u)
			d.Counter, _ = client.(proxy.TokenCounter)
			tier.Deployments = append(tier.Deployments, d)
		}
		tiers = append(tiers, tier)
	}
	return tiers, nil
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (b *builder) embeddings(c *config.Config) ([]proxy.Deployment, error) {
	var all []proxy.Deployment
	for i := range c.Embeddings {
		u := &c.Embeddings[i]
		embedder, err := b.embedder(c, u)
		if err != nil {
			return nil, config.Problems{c.Problem(u.Path, "%v", err)}
		}
		d := deployment(u)
		d.Embedder = embedder
		all = append(all, d)
	}
	return all, nil
}

func (b *builder) embedder(c *config.Config, u *config.Upstream) (proxy.Embedder, error) {
	bare := *u
	bare.Capabilities = translate.CapabilityOverrides{} // its family is an embedding model, which no chat knows
	client, err := b.upstream(c, &bare, "embeddings", 0)
	if err != nil {
		return nil, err
	}
	switch client := client.(type) {
	case *upstream.Bedrock:
		return upstream.NewBedrockEmbeddings(upstream.BedrockEmbeddingsConfig{
			Name: u.Name, Model: u.Model, Family: u.Capabilities.Family, Client: client, Resolve: client.FoundationModel,
		})
	case *upstream.Responses, *upstream.OpenAI:
		return upstream.NewOpenAIEmbeddings(openAI(c, u), u.Model)
	case proxy.Embedder:
		return client, nil
	}
	return nil, fmt.Errorf("provider %s makes no embeddings", u.Provider)
}

// deployment is the upstream as the proxy bills and calls it, but for its client.
func deployment(u *config.Upstream) proxy.Deployment {
	d := proxy.Deployment{
		Name:      u.Name,
		Provider:  u.Provider,
		Model:     u.Model,
		Price:     u.Billed,
		MaxOutput: capabilities(u).MaxOutput,
		OutputCap: u.MaxOutputTokens,
		KeepUsage: u.ReadsUsage(),
		Meter:     measure.NewMeter(u.Provider, u.Model, contextWindow(u)),
		Drop:      u.Params.Drop,
		Context:   contextWindow(u),
		Set:       texts(u.Params.Set),
		Default:   texts(u.Params.Default),
		Timeouts:  proxyTimeouts(u.Timeouts),
		Drain:     u.OnAbort == "drain",

		CostReported: u.Provider == "openrouter",
	}
	d.LimitField, d.LimitEither = u.Limit()
	return d
}

func texts(values map[string]config.JSONValue) map[string]string {
	out := make(map[string]string, len(values))
	for name, v := range values {
		out[name] = string(v)
	}
	return out
}

// upstream makes the client of a configured upstream. This switch is the one
// place that knows which providers there are; place is the tier's, from 0 for
// the least capable to 1.
func (b *builder) upstream(c *config.Config, u *config.Upstream, tier string, place float64) (proxy.Upstream, error) {
	connect := time.Duration(cmp.Or(u.Timeouts.Connect, c.Timeouts.Connect))
	switch u.Dialect() {
	case config.DialectSimulated:
		// A more capable model takes longer.
		return upstream.NewSimulated(upstream.SimulatedConfig{
			Name: u.Name, Model: u.Model, Tier: tier, Seed: b.seed, FaultRate: b.faults, Stall: 8 * time.Second,
			TTFT:            time.Duration(150+550*place) * time.Millisecond,
			TokensPerSecond: 140 - 90*place,
		}), nil
	case config.DialectBedrock:
		return newBedrock(c, u, connect)
	case config.DialectAnthropic:
		return upstream.NewMessages(upstream.AnthropicConfig{
			Name: u.Name, Model: u.Model, Endpoint: u.Endpoint, APIKey: u.APIKey,
			ForwardClientKey: u.APIKey == config.ClientKey,
			Headers:          headers(u),
			Connect:          connect,
			TLS:              upstreamTLS(u),
			Capabilities:     u.Capabilities,
			Translate:        translation(c),
			MaxTokens:        u.MaxOutputTokens,
		})
	}
	return b.openAIDialect(c, u, connect)
}

// openAIDialect makes the client of an OpenAI-compatible API, in the dialect
// that the configuration names, else the one that the model needs.
func (b *builder) openAIDialect(c *config.Config, u *config.Upstream, connect time.Duration) (proxy.Upstream, error) {
	switch api := apiOf(u); api {
	case "messages":
		return upstream.NewMessages(upstream.AnthropicConfig{
			Name: u.Name, Model: u.Model, Endpoint: strings.TrimSuffix(strings.TrimRight(u.BaseURL, "/"), "/v1"), APIKey: u.APIKey, Bearer: true,
			ForwardClientKey: u.APIKey == config.ClientKey,
			Headers:          headers(u),
			Connect:          connect,
			Capabilities:     translate.CapabilityOverrides(u.Capabilities),
			Translate:        translation(c),
			MaxTokens:        u.MaxOutputTokens,
		})
	case "responses", "both":
		return upstream.NewResponses(upstream.ResponsesConfig{OpenAIConfig: openAI(c, u), Model: u.Model, Chat: api == "both",
			Translate: translation(c), Seal: b.seal})
	}
	return upstream.NewOpenAI(openAI(c, u))
}

// apiOf settles which API an upstream is spoken to in: chat, responses,
// messages, or both of the first two.
func apiOf(u *config.Upstream) string {
	switch {
	case u.API != "" && u.API != "auto":
		return u.API
	case u.Dialect() == config.DialectAnthropic:
		return "messages"
	case u.Provider != "openai" && u.Provider != "azure":
		return "chat"
	case translate.NeedsResponses(u.Model):
		return "responses"
	case strings.HasPrefix(u.BaseURL, "https://api.openai.com/"), u.Provider == "azure" && !strings.Contains(u.BaseURL, "/deployments/"):
		return "both"
	}
	return "chat"
}

// dialects says which dialects an upstream takes as they come, beside chat
// completions, and whether it translates those itself.
func dialects(u *config.Upstream) (native []translate.Dialect, extended bool) {
	switch apiOf(u) {
	case "messages":
		return []translate.Dialect{translate.DialectMessages}, true
	case "responses":
		return []translate.Dialect{translate.DialectResponses}, true
	case "both":
		return []translate.Dialect{translate.DialectResponses}, false
	}
	return nil, u.Dialect() == config.DialectBedrock
}

// openAI is the configuration of an OpenAI-compatible API's client.
func openAI(c *config.Config, u *config.Upstream) upstream.OpenAIConfig {
	limit, _ := u.Limit()
	return upstream.OpenAIConfig{
		Name: u.Name, Provider: u.Provider, BaseURL: u.BaseURL,
		APIKey:           u.APIKey,
		ForwardClientKey: u.APIKey == config.ClientKey,
		Headers:          headers(u),
		Connect:          time.Duration(cmp.Or(u.Timeouts.Connect, c.Timeouts.Connect)),
		TLS:              upstreamTLS(u),
		LimitField:       limit,
	}
}

// upstreamTLS is how an upstream is trusted; that its files can be read was
// checked with the configuration.
func upstreamTLS(u *config.Upstream) *tls.Config {
	c, _ := u.TLS()
	return c
}

// newBedrock takes the region from the upstream, else from where the AWS SDK
// looks, else from the first upstream of the file that has one.
func newBedrock(c *config.Config, u *config.Upstream, connect time.Duration) (*upstream.Bedrock, error) {
	conf := upstream.BedrockConfig{
		Name: u.Name, Model: u.Model, Region: u.Region, Profile: u.Profile, Endpoint: u.Endpoint, APIKey: u.APIKey,
		Headers:      headers(u),
		Connect:      connect,
		TLS:          upstreamTLS(u),
		Capabilities: u.Capabilities,
		Translate:    translation(c),
	}
	client, err := upstream.NewBedrock(conf)
	if conf.Region = c.FirstRegion(); err != nil && u.Region == "" && conf.Region != "" {
		if again, err := upstream.NewBedrock(conf); err == nil {
			return again, nil
		}
	}
	return client, err
}

func translation(c *config.Config) translate.Options {
	return translate.Options{Unsupported: c.Translate.Unsupported, RemoteImages: c.Translate.RemoteImages, ImageHosts: c.Translate.ImageHosts}
}

func headers(u *config.Upstream) map[string]string {
	out := make(map[string]string, len(u.Headers))
	for name, value := range u.Headers {
		out[name] = value.Reveal()
	}
	return out
}

// router makes what decides.
func (b *builder) router(c *config.Config) (*routing.Router, error) {
	conf := routing.Config{Fallback: c.Fallback, State: b.state, MaxAttempts: c.Retries.MaxAttempts}
	for _, t := range c.Tiers {
		tier := routing.Tier{Name: t.Name, Balance: routing.Balance(t.Balance)}
		for i := range t.Upstreams {
			tier.Deployments = append(tier.Deployments, routed(&t.Upstreams[i]))
		}
		if len(t.Upstreams) > 0 {
			tier.Price = t.Upstreams[0].Billed.Blended() // the one that usually answers
		}
		conf.Tiers = append(conf.Tiers, tier)
	}
	for i := range c.Strategy {
		conf.Strategies = append(conf.Strategies, strategy(&c.Strategy[i]))
	}
	router, err := routing.New(conf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	return router, nil
}

// contextWindow is the model's, in tokens; 0 when it is not known.
func contextWindow(u *config.Upstream) int64 {
	return cmp.Or(capabilities(u).Context, budget.ContextWindow(u.Provider, u.Model))
}

// routed is the upstream as routing sees it.
func routed(u *config.Upstream) routing.Deployment {
	caps := capabilities(u)
	return routing.Deployment{
		Name:    u.Name,
		Weight:  u.Weight,
		Context: contextWindow(u),
		Images:  caps.Images,
		Audio:   caps.Audio,
	}
}

// capabilities are what the model takes: by the configuration, else by the
// table of models we translate for. Whatever else a request has in it, the
// provider of an OpenAI-compatible API judges best itself.
func capabilities(u *config.Upstream) translate.Capabilities {
	caps := translate.Capabilities{Images: true, Audio: true}
	if d := u.Dialect(); d == config.DialectBedrock || d == config.DialectAnthropic {
		caps = translate.LookupCapabilities(u.Provider, u.Model)
	}
	return u.Capabilities.Apply(u.Provider, caps)
}

// strategy makes a link of the chain. This switch is the one place that knows
// which strategies there are.
func strategy(s *config.Strategy) routing.Strategy {
	switch {
	case s.Cost != nil:
		return routing.NewCost(routing.CostConfig{
			TiersByCost: s.Cost.TiersByCost,
			DowngradeAt: s.Cost.DowngradeAt,
			FloorAt:     s.Cost.FloorAt,
		})
	case s.Latency != nil:
		slas := make(map[string]time.Duration, len(s.Latency.TierSLAs))
		for tier, ms := range s.Latency.TierSLAs {
			slas[tier] = millis(ms)
		}
		return routing.NewLatency(routing.LatencyConfig{
			SLA:        millis(s.Latency.SLA),
			TTFTSLA:    millis(s.Latency.TTFTSLA),
			TierSLAs:   slas,
			Preferred:  s.Latency.PreferredTier,
			Fallback:   s.Latency.FallbackTier,
			WindowSize: s.Latency.WindowSize,
			MinSamples: s.Latency.MinSamples,
		})
	}
	var rules []routing.Rule
	for _, tier := range slices.Sorted(maps.Keys(s.Complexity.Rules)) {
		r := s.Complexity.Rules[tier]
		rules = append(rules, routing.Rule{Tier: tier, Low: r[0], High: r[1]})
	}
	return routing.NewComplexity(routing.ComplexityConfig{Rules: rules, Harness: s.Complexity.Harness})
}

// needsRestart names what differs between two configurations and a reload
// cannot change.
func needsRestart(before, after *config.Config) string {
	var names []string
	for _, s := range []struct {
		name string
		same bool
	}{
		{"server.listen", before.Server.Listen == after.Server.Listen},
		{"server.admin_listen", before.Server.AdminListen == after.Server.AdminListen},
		{"server.max_connections", before.Server.MaxConnections == after.Server.MaxConnections},
		{"server.max_users", before.Server.MaxUsers == after.Server.MaxUsers},
		{"server.tls", (before.Server.TLS.CertFile == "") == (after.Server.TLS.CertFile == "")},
		{"redis", before.Redis == after.Redis},
		{"log.format", before.Log.Format == after.Log.Format},
	} {
		if !s.same {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ", ")
}
