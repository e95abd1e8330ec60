package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// Config is config.yaml. A section that is left out has the defaults of
// setDefaults; config.yaml explains every key.
type Config struct {
	Server     Server     `yaml:"server"`
	Identity   Identity   `yaml:"identity"`
	Tiers      Tiers      `yaml:"tiers"`
	Fallback   string     `yaml:"fallback"` // a tier's name; the first tier when left out
	Strategy   []Strategy `yaml:"strategy"` // complexity when left out
	Budgets    []Budget   `yaml:"budgets"`
	Models     Models     `yaml:"models"`
	Redis      Redis      `yaml:"redis"`
	Timeouts   Timeouts   `yaml:"timeouts"`
	Retries    Retries    `yaml:"retries"`
	Log        Log        `yaml:"log"`
	Embeddings []Upstream `yaml:"embeddings"`
	Translate  Translate  `yaml:"translate"`
	Responses  Responses  `yaml:"responses"`

	File string           // the file it was read from, for messages
	at   map[string]place // by dotted key
}

// Server says where to listen and how much to take.
type Server struct {
	Listen       string   `yaml:"listen"`         // host:port or unix:/path
	AdminListen  string   `yaml:"admin_listen"`   // "" = admin routes on Listen
	MaxBodyBytes int64    `yaml:"max_body_bytes"` // the largest request body, in bytes; larger ones get 413
	DrainTimeout Duration `yaml:"drain_timeout"`  // how long running requests may go on after SIGTERM
	DrainDelay   Duration `yaml:"drain_delay"`    // how long new ones are still taken after it
	Hosts        []string `yaml:"hosts"`          // further values of Host that a loopback listener answers
	CORS         CORS     `yaml:"cors"`
	// MaxConnections bounds the clients' connections, of all listeners together;
	// never more than 80 % of the process' descriptors.
	MaxConnections int `yaml:"max_connections"`
	// MaxUsers bounds the users' budgets that are counted at once where redis.url
	// is empty; a user with an hourly and a daily budget has two. Users leave when
	// their window ends. Past the bound new users get 503.
	MaxUsers int       `yaml:"max_users"`
	TLS      ServerTLS `yaml:"tls"`
}

// CORS says which web pages may call the API from a browser: by default none.
type CORS struct {
	Origins []string `yaml:"origins"` // such as https://app.example.com; "*" = any
}

// Responses says how answers of the Responses API are kept.
type Responses struct {
	Key translate.Secret `yaml:"key"` // seals reasoning that clients carry back; made at start when left out
}

// ServerTLS is how TCP listeners speak TLS: PEM files, read again on reload.
type ServerTLS struct {
	CertFile     string `yaml:"cert_file"`      // the certificate and what it is signed by
	KeyFile      string `yaml:"key_file"`       // the key of cert_file
	ClientCAFile string `yaml:"client_ca_file"` // "" asks clients for no certificate
}

// Identity says whose word on who is spending is believed.
type Identity struct {
	Mode         string       `yaml:"mode" oneof:"sidecar,trusted_proxy,keys,signed"` // whose word on who is spending is believed: everybody's (sidecar), that of trusted peers, of the API key, or of a signature
	Anonymous    string       `yaml:"anonymous" oneof:"allow,reject"`                 // left out: reject in trusted_proxy and signed, else allow
	Body         bool         `yaml:"body"`                                           // in trusted_proxy and signed: the body may name the user and narrow the budget
	TrustedCIDRs []string     `yaml:"trusted_cidrs"`                                  // in trusted_proxy: the TCP peers whose identity headers are believed
	SigningKeys  []SigningKey `yaml:"signing_keys"`
	Keys         []Key        `yaml:"keys"`
}

// SigningKey verifies X-Router-Signature.
type SigningKey struct {
	ID     string           `yaml:"id"`     // the k= of the signature
	Secret translate.Secret `yaml:"secret"` // what the signature is made with, at its bytes
}

// Key is a caller's API key: itself, or its SHA-256 in hex.
type Key struct {
	Name   string           `yaml:"name"`               // what logs and budgets call it; unique
	Key    translate.Secret `yaml:"key"`                // the key itself; or sha256 instead
	SHA256 translate.Secret `yaml:"sha256"`             // the key's SHA-256 in hex, so that the file holds no secret
	User   string           `yaml:"user"`               // "*" lets the header choose; "" is the key's name
	Tiers  []string         `yaml:"tiers"`              // nil means all
	Budget *USD             `yaml:"budget_usd_per_day"` // the key's own daily limit, a hard one
	Admin  bool             `yaml:"admin"`              // may use the admin routes, in every mode
}

// Tiers are the tiers from least to most capable.
type Tiers []Tier

// Tier is a list of upstreams that are good enough for the same requests. It is
// written as the bare list, or as a mapping of the fields below.
type Tier struct {
	Name            string
	Upstreams       []Upstream `yaml:"upstreams"`
	Balance         string     `yaml:"balance" oneof:"ordered,weighted,fastest"` // the order in which the upstreams are tried: as listed, at random by weight, or by recent latency
	MaxOutputTokens int64      `yaml:"max_output_tokens"`                        // 0 means no limit of ours
}

// Upstream is a model at a provider.
type Upstream struct {
	Name            string                      `yaml:"name"`                                     // provider/model when left out
	Provider        string                      `yaml:"provider"`                                 // whose API it is; docs/models.md lists them
	Model           string                      `yaml:"model"`                                    // the model's name as the provider has it
	BaseURL         string                      `yaml:"base_url"`                                 // of an OpenAI-compatible API
	API             string                      `yaml:"api" oneof:"auto,chat,responses,messages"` // the dialect it is spoken to in; "" = auto
	APIKey          translate.Secret            `yaml:"api_key"`                                  // "client" forwards the caller's own
	APIKeyFile      string                      `yaml:"api_key_file"`                             // a file that holds the key, instead of api_key; read again on reload
	Region          string                      `yaml:"region"`                                   // of Bedrock
	Profile         string                      `yaml:"profile"`                                  // of the AWS configuration
	Endpoint        string                      `yaml:"endpoint"`                                 // another root for Bedrock or Anthropic
	Headers         map[string]translate.Secret `yaml:"headers"`                                  // sent with each request to this upstream
	Weight          int                         `yaml:"weight"`                                   // for balance: weighted
	Price           *Price                      `yaml:"price"`
	MaxOutputTokens int64                       `yaml:"max_output_tokens"` // our cap on output tokens, applied when the client asks for more or sets no limit; 0 means none
	Params          Params                      `yaml:"params"`
	LimitField      string                      `yaml:"limit_field" oneof:"max_tokens,max_completion_tokens"` // that an output limit is written in; the provider's when left out
	CAFile          string                      `yaml:"ca_file"`                                              // PEM: authorities to trust instead of the system's
	CertFile        string                      `yaml:"cert_file"`                                            // PEM: the router's own certificate
	KeyFile         string                      `yaml:"key_file"`                                             // the key of cert_file
	Timeouts        Timeouts                    `yaml:"timeouts"`                                             // zero fields are those of the top level
	Capabilities    Capabilities                `yaml:"capabilities"`
	OnAbort         string                      `yaml:"on_abort" oneof:"cancel,drain"` // what happens to the call when the client leaves: cancel it, or read on for its usage for up to a minute (drain)

	Path   string // dotted, such as tiers.fast[0]; for messages
	Billed budget.Price
	// Guessed says why Billed is not this model's own price; "" when it is.
	Guessed string
}

// Price is what a model costs, exact to the nano-dollar.
type Price struct {
	Input          *USD                 `yaml:"input"`          // US dollars per million prompt tokens
	Output         *USD                 `yaml:"output"`         // US dollars per million answer tokens
	CachedInput    *USD                 `yaml:"cached_input"`   // read from the provider's cache; input's when left out
	CacheWrite     *USD                 `yaml:"cache_write"`    // written to its cache; the price table's when left out, else input's
	CacheWriteHour *USD                 `yaml:"cache_write_1h"` // written to a cache that lasts an hour; twice the input's for Claude when left out, else cache_write's
	AudioInput     *USD                 `yaml:"audio_input"`    // US dollars per million audio tokens of the prompt; the price table's when left out, else input's
	AudioOutput    *USD                 `yaml:"audio_output"`   // US dollars per million audio tokens of the answer; the price table's when left out, else output's
	PerSearch      *USD                 `yaml:"per_search"`     // US dollars for each web search; the price table's when left out
	PerRequest     *USD                 `yaml:"per_request"`    // US dollars for each request, beside its tokens; the price table's when left out
	Tiers          map[string]TierPrice `yaml:"tiers"`          // by service tier or speed, such as flex, priority, fast: a factor or a price; the price table's factors when left out
}

// TierPrice is what tokens cost at another service tier.
type TierPrice struct {
	Factor float64 // times the plain price of each token; 0 when Price is set
	Price  *Price  // without tiers; what is left out of audio and fees is the plain price's
}

// Params are request fields that an upstream always gets (Set), gets when the
// client did not send them (Default), as JSON, or never gets (Drop).
type Params struct {
	Drop    []string             `yaml:"drop"`    // request fields that are never sent
	Set     map[string]JSONValue `yaml:"set"`     // request fields that are replaced
	Default map[string]JSONValue `yaml:"default"` // request fields that are filled in when the client left them out
}

// Timeouts bound a call. None may be 0 in the end.
type Timeouts struct {
	Connect    Duration `yaml:"connect"`     // until there is a connection
	FirstEvent Duration `yaml:"first_event"` // of a stream
	Idle       Duration `yaml:"idle"`        // between two events of a stream
	Total      Duration `yaml:"total"`       // of a whole answer or stream
}

// Capabilities correct the built-in table of what a model takes; what is left
// out is the table's.
type Capabilities = translate.CapabilityOverrides

// Strategy is one link of the chain; exactly one field is set.
type Strategy struct {
	Cost       *Cost       `yaml:"cost"`
	Latency    *Latency    `yaml:"latency"`
	Complexity *Complexity `yaml:"complexity"`

	Path string // dotted; for messages
}

// Cost narrows the tiers as a budget is used up.
type Cost struct {
	BudgetPerDay *USD     `yaml:"budget_usd_per_day"` // short for a global daily budget
	TiersByCost  []string `yaml:"tiers_by_cost"`      // dear to cheap; by price when left out
	DowngradeAt  float64  `yaml:"downgrade_at"`       // fraction of the budget
	FloorAt      float64  `yaml:"floor_at"`           // fraction of the budget from which only the cheapest tier is allowed
}

// Latency removes tiers that are slower than promised.
type Latency struct {
	SLA           int64            `yaml:"sla_ms"`         // the most milliseconds that 90 % of the answers may take
	TTFTSLA       int64            `yaml:"ttft_sla_ms"`    // 0 judges streams by SLA on the whole
	TierSLAs      map[string]int64 `yaml:"tier_slas"`      // ms, by tier
	PreferredTier string           `yaml:"preferred_tier"` // tried first while it is healthy
	FallbackTier  string           `yaml:"fallback_tier"`  // tried first while preferred_tier is not healthy
	WindowSize    int              `yaml:"window_size"`    // answers
	MinSamples    int              `yaml:"min_samples"`    // below this a tier counts as healthy
}

// Complexity picks a tier by the prompt's score.
type Complexity struct {
	Rules   map[string][2]float64 `yaml:"rules"`   // [from, to) of the score by tier; nil means the default ones
	Harness []string              `yaml:"harness"` // tags of blocks that are not scored; nil means routing.HarnessTags, empty means none
}

// Budget is a limit of money per window.
type Budget struct {
	Scope       string `yaml:"scope" oneof:"global,user,key"`         // whose spending it limits: everybody together, each user, each API key
	USD         *USD   `yaml:"usd"`                                   // the limit per window
	Per         string `yaml:"per"`                                   // hour, day, week, month, or 30d
	OnExhausted string `yaml:"on_exhausted" oneof:"downgrade,reject"` // when it is used up: only the cheapest tier (downgrade), or 429 (reject), which makes it exact
	Timezone    string `yaml:"timezone"`                              // an IANA name
}

// Models says what a client may send as "model".
type Models struct {
	Aliases map[string]string `yaml:"aliases"`                      // names that clients may send, each for auto, a tier, an upstream or a model
	Unknown string            `yaml:"unknown" oneof:"route,reject"` // any other name: routed as auto, or 404 model_not_found
}

// Redis is where replicas share their counters.
type Redis struct {
	URL translate.Secret `yaml:"url"` // "" = counters in this process
	// Username and Password are the server's, instead of those in the URL.
	Username string           `yaml:"username"`
	Password translate.Secret `yaml:"password"`                            // in plain, where a URL would want it percent-encoded
	Prefix   string           `yaml:"prefix"`                              // what all keys begin with
	OnLoss   string           `yaml:"on_loss" oneof:"closed,bounded,open"` // requests under a reject budget while Redis is silent: 503 (closed), admitted against allotments taken beforehand (bounded), admitted and counted as unenforced (open)
	Lease    Duration         `yaml:"lease"`                               // of reservations, also without Redis
	// Timeout is how long a reservation waits for a Redis that is silent.
	Timeout Duration `yaml:"timeout"`
	// PEM files, for rediss://: the authorities that Redis' certificate is
	// checked with, instead of the system's, and the router's own certificate.
	CAFile   string `yaml:"ca_file"`
	CertFile string `yaml:"cert_file"` // the router's own certificate, for rediss://
	KeyFile  string `yaml:"key_file"`  // the key of cert_file
}

// Retries bounds repeated attempts.
type Retries struct {
	MaxAttempts int     `yaml:"max_attempts"`                  // of one request, over all upstreams
	Budget      float64 `yaml:"retry_budget"`                  // repeats at one upstream, as a share of its requests
	OnUnknown   string  `yaml:"on_unknown" oneof:"once,never"` // a request that was written and not answered: repeated once, or never
}

// Log says what is written about requests.
type Log struct {
	Level     string `yaml:"level" oneof:"debug,info,warn,error"` // the least level that is logged
	Format    string `yaml:"format" oneof:"json,text"`            // JSON lines or text
	Decisions string `yaml:"decisions"`                           // a file of JSON lines; "" = none
	Users     string `yaml:"users" oneof:"hash,plain"`            // how users are named in logs, decisions and the dashboard: hash is an HMAC with users_key
	// UsersKey is what users' names are hashed with. Without it each start has
	// its own, and a name's hash changes with it.
	UsersKey translate.Secret `yaml:"users_key"`
}

// Translate says what to do with what an upstream's dialect cannot say.
type Translate struct {
	Unsupported  string   `yaml:"unsupported" oneof:"default,drop,reject"` // fields that a dialect cannot say: by the table of each field (default), dropped where possible, or refused with 400
	RemoteImages bool     `yaml:"remote_images"`                           // allows images to be fetched for models that take only bytes; off, such an image is a 400
	ImageHosts   []string `yaml:"image_hosts"`                             // the only hosts such images may come from; empty means any public one
}

func (c *Config) setDefaults() {
	c.Server = Server{
		Listen:       "127.0.0.1:8080",
		MaxBodyBytes: 32 << 20,
		DrainTimeout: Duration(300 * time.Second),

		MaxConnections: 16_384,
		MaxUsers:       budget.DefaultMaxUsers,
	}
	c.Identity = Identity{Mode: "sidecar"}
	c.Models = Models{Unknown: "route"}
	c.Redis = Redis{Prefix: "router", OnLoss: "bounded", Lease: Duration(time.Minute), Timeout: Duration(time.Second)}
	c.Timeouts = Timeouts{
		Connect:    Duration(2 * time.Second),
		FirstEvent: Duration(60 * time.Second),
		Idle:       Duration(120 * time.Second),
		Total:      Duration(30 * time.Minute),
	}
	c.Retries = Retries{MaxAttempts: 4, Budget: 0.2, OnUnknown: "once"}
	c.Log = Log{Level: "info", Format: "json", Users: "hash"}
	c.Translate = Translate{Unsupported: "default"}
}

func (t *Tier) setDefaults()     { *t = Tier{Balance: "ordered"} }
func (u *Upstream) setDefaults() { *u = Upstream{Weight: 1, OnAbort: "cancel"} }
func (b *Budget) setDefaults() {
	*b = Budget{Per: "day", OnExhausted: "downgrade", Timezone: "UTC"}
}
func (c *Cost) setDefaults() { *c = Cost{DowngradeAt: 0.8, FloorAt: 0.95} }
func (l *Latency) setDefaults() {
	*l = Latency{SLA: 3000, WindowSize: 50, MinSamples: 5}
}

// Load reads and checks a configuration. The error is Problems when the
// file could be read.
func Load(file string, lookup LookupFunc) (*Config, error) {
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read configuration: %w; -config names another file, and `inference-router demo` needs none", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(file, src, lookup)
}

// Parse is Load for bytes that are already read; file is for the
// messages.
func Parse(file string, src []byte, lookup LookupFunc) (*Config, error) {
	c := &Config{File: file}
	at, problems := decodeYAML(file, src, lookup, c)
	if len(problems) > 0 {
		return nil, problems
	}
	c.at = at
	if problems := c.Check(lookup); len(problems) > 0 {
		return nil, problems
	}
	return c, nil
}

// Problem makes a Problem at the key, or at the nearest one around it that the
// file has.
func (c *Config) Problem(key, format string, args ...any) Problem {
	p := Problem{File: c.File, Key: key, Message: fmt.Sprintf(format, args...)}
	for around := key; ; {
		if at, ok := c.at[around]; ok {
			p.Line, p.Column = at.line, at.column
			return p
		}
		i := max(strings.LastIndexByte(around, '.'), strings.LastIndexByte(around, '['), 0)
		if around == "" {
			return p
		}
		around = around[:i]
	}
}

// written is what the file itself has at the key: a value that came out of a
// variable may be a secret, and is not repeated in messages.
func (c *Config) written(key, value string) string {
	if source := c.at[key].source; source != "" {
		return source
	}
	return value
}

// has reports whether the file says something about the key.
func (c *Config) has(key string) bool {
	_, ok := c.at[key]
	return ok
}

// TierNames are the tiers' names from least to most capable.
func (c *Config) TierNames() []string {
	names := make([]string, len(c.Tiers))
	for i, t := range c.Tiers {
		names[i] = t.Name
	}
	return names
}

func (t *Tiers) decodeNode(d *decoder, key string, n ast.Node, depth int) {
	for _, p := range d.pairs(key, n, depth) {
		tier := Tier{}
		d.decode(join(key, p.name), p.value, &tier, depth)
		tier.Name = p.name
		*t = append(*t, tier)
	}
}

func (t *Tier) decodeNode(d *decoder, key string, n ast.Node, depth int) {
	switch n.(type) {
	case *ast.SequenceNode:
		d.decode(key, n, &t.Upstreams, depth)
	case ast.MapNode:
		type mapping Tier // without this method
		m := mapping(*t)
		d.decode(key, n, &m, depth)
		*t = Tier(m)
		key = join(key, "upstreams")
	default:
		d.problem(n, key, "want a list of upstreams, got %s", describeNode(n))
	}
	for i := range t.Upstreams {
		t.Upstreams[i].Path = index(key, i)
	}
}

func (t *TierPrice) decodeNode(d *decoder, key string, n ast.Node, depth int) {
	if _, ok := n.(ast.MapNode); ok {
		t.Price = new(Price)
		d.decode(key, n, t.Price, depth)
		return
	}
	told := len(d.problems)
	d.decode(key, n, &t.Factor, depth)
	if len(d.problems) == told && (t.Factor <= 0 || t.Factor > 100) {
		d.problem(n, key, "want a factor of the plain price above 0 and at most 100, or a price such as {input: 1.25, output: 10}")
	}
}

func (s *Strategy) decodeNode(d *decoder, key string, n ast.Node, depth int) {
	s.Path = key
	names := []string{"cost", "latency", "complexity"}
	if word, ok := n.(*ast.StringNode); ok {
		s.pick(d, key, n, word.Value)
		return
	}
	pairs := d.pairs(key, n, depth)
	if len(pairs) != 1 {
		d.problem(n, key, "want one strategy in each item of the list: %s", strings.Join(names, ", "))
		return
	}
	if p := pairs[0]; s.pick(d, key, p.key, p.name) {
		type mapping Strategy
		m := mapping(*s)
		// A bare name has no value: its defaults are set already.
		if _, bare := p.value.(*ast.NullNode); !bare {
			d.decode(key, n, &m, depth)
		}
		*s = Strategy(m)
	}
}

// pick makes the strategy of that name with its defaults.
func (s *Strategy) pick(d *decoder, key string, n ast.Node, name string) bool {
	switch name {
	case "cost":
		s.Cost = new(Cost)
		s.Cost.setDefaults()
	case "latency":
		s.Latency = new(Latency)
		s.Latency.setDefaults()
	case "complexity":
		s.Complexity = new(Complexity)
	default:
		d.problem(n, key, "unknown strategy %q%s", name, Suggest(name, []string{"cost", "latency", "complexity"}))
		return false
	}
	return true
}

// Name is the strategy's name in the file.
func (s *Strategy) Name() string {
	switch {
	case s.Cost != nil:
		return "cost"
	case s.Latency != nil:
		return "latency"
	case s.Complexity != nil:
		return "complexity"
	}
	return ""
}

// Duration is a time.Duration, written as 30s or 1h30m.
type Duration time.Duration

func (v *Duration) decodeText(text string) error {
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed < 0 {
		return errors.New("want a duration such as 500ms, 30s, 5m or 1h30m")
	}
	*v = Duration(parsed)
	return nil
}

// USD is an amount of US dollars, read digit by digit and never as a float.
type USD budget.Nanodollars

func (v *USD) decodeText(text string) error {
	nano, err := budget.ParsePrice(text)
	switch {
	case errors.Is(err, budget.ErrTooLarge):
		return errors.New("want less than $9,000,000")
	case err != nil:
		return errors.New("want an amount of US dollars such as 10 or 0.25, with at most nine decimal places")
	}
	*v = USD(nano)
	return nil
}

// JSONValue is any YAML value, as JSON. Numbers keep their text.
type JSONValue string

func (v *JSONValue) decodeNode(d *decoder, key string, n ast.Node, depth int) {
	var out bytes.Buffer
	d.writeJSON(&out, key, n, depth)
	*v = JSONValue(out.String())
}

func (d *decoder) writeJSON(out *bytes.Buffer, key string, n ast.Node, depth int) {
	if n = d.resolve(key, n, depth); n == nil {
		return
	}
	switch n := n.(type) {
	case *ast.NullNode:
		out.WriteString("null")
	case *ast.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Values {
			if i > 0 {
				out.WriteByte(',')
			}
			d.writeJSON(out, index(key, i), item, depth+1)
		}
		out.WriteByte(']')
	case ast.MapNode:
		out.WriteByte('{')
		for i, p := range d.pairs(key, n.(ast.Node), depth) {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSONString(out, p.name)
			out.WriteByte(':')
			d.writeJSON(out, join(key, p.name), p.value, depth+1)
		}
		out.WriteByte('}')
	default:
		d.writeJSONScalar(out, key, n)
	}
}

func (d *decoder) writeJSONScalar(out *bytes.Buffer, key string, n ast.Node) {
	s, ok := d.scalarOf(key, n, "a value")
	switch {
	case !ok:
	case !s.typed:
		writeJSONString(out, s.text)
	case json.Valid([]byte(strings.ToLower(s.text))):
		out.WriteString(strings.ToLower(s.text))
	default:
		d.problem(n, key, "a number that JSON has no form for")
	}
}

func writeJSONString(out *bytes.Buffer, s string) {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string, to memory
	out.Truncate(out.Len() - 1)
}

// Where adds to an error the place of the key it comes from, if the file has it.
func (c *Config) Where(key string, err error) error {
	if !c.has(key) {
		return err
	}
	return Problems{c.Problem(key, "%v", err)}
}

// FirstRegion is the first region that an upstream names, "" when none does.
func (c *Config) FirstRegion() string {
	for _, upstreams := range append(c.UpstreamLists(), c.Embeddings) {
		for _, u := range upstreams {
			if u.Region != "" {
				return u.Region
			}
		}
	}
	return ""
}

// SLA is a tier's promised latency, 0 when latency plays no part in routing.
func (c *Config) SLA(tier string) time.Duration {
	for _, s := range c.Strategy {
		if s.Latency != nil {
			return time.Duration(cmp.Or(s.Latency.TierSLAs[tier], s.Latency.SLA)) * time.Millisecond
		}
	}
	return 0
}
