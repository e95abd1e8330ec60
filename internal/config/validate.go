package config

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // budgets[].timezone, also where the system has no zones

	"golang.org/x/net/http/httpguts"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/redisclient"
	"github.com/inference-router/inference-router/translate"
)

// checker collects what is wrong with a configuration that reads well.
type checker struct {
	*Config
	lookup   LookupFunc
	problems Problems
}

// Check looks for what types alone do not tell, and fills in what providers
// preset: names, addresses, keys.
func (c *Config) Check(lookup LookupFunc) Problems {
	k := &checker{Config: c, lookup: lookup}
	k.server()
	k.cors()
	k.identity()
	k.tiers()
	k.embeddings()
	k.strategies()
	k.budgets()
	k.aliases()
	k.rest()
	return k.problems.sorted()
}

func (k *checker) add(key, format string, args ...any) {
	k.problems = append(k.problems, k.Problem(key, format, args...))
}

func (k *checker) server() {
	s := k.Server
	k.listener("server.listen", s.Listen)
	if s.AdminListen != "" {
		k.listener("server.admin_listen", s.AdminListen)
		if s.AdminListen == s.Listen {
			k.add("server.admin_listen", "the same as server.listen; leave it empty to serve both on one")
		}
	}
	if s.MaxBodyBytes <= 0 {
		k.add("server.max_body_bytes", "want more than 0 bytes")
	}
	if s.MaxConnections < 1 {
		k.add("server.max_connections", "want at least 1")
	}
	if s.MaxUsers < 1 {
		k.add("server.max_users", "want at least 1")
	}
	switch t := s.TLS; {
	case t.CertFile != "" && t.KeyFile == "":
		k.add("server.tls", "key_file is missing: the private key of cert_file")
	case t.CertFile == "" && (t.KeyFile != "" || t.ClientCAFile != ""):
		k.add("server.tls", "cert_file is missing: the certificate that clients are shown")
	}
	for i, host := range s.Hosts {
		if host == "" || strings.ContainsAny(host, " /:@") && !isAddress(host) {
			k.add(index("server.hosts", i), "want a host name without scheme and port, such as router.internal")
		}
	}
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// listener checks an address to listen on. In sidecar mode everybody who
// reaches it is believed, so it has to be of this machine alone.
func (k *checker) listener(key, address string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			k.add(key, "want unix:/path")
		}
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || !isPort(port) {
		k.add(key, "want host:port, such as 127.0.0.1:8080, or unix:/path")
		return
	}
	if k.Identity.Mode == "sidecar" && !IsLoopback(host) {
		k.add(key, "identity.mode sidecar believes whoever reaches it, so it listens on loopback (127.0.0.1:%s) or a unix socket only; choose identity.mode keys, signed or trusted_proxy for others", port)
	}
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// IsLoopback reports whether only this machine can reach a listener on that host.
func IsLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

func (k *checker) identity() {
	if k.Identity.Anonymous == "" {
		k.Identity.Anonymous = "allow"
		if k.Identity.believesOthers() {
			k.Identity.Anonymous = "reject"
		}
	}
	id := k.Identity
	if id.Body && !id.believesOthers() {
		k.add("identity.body", "only for identity.mode trusted_proxy and signed: in sidecar the body names the user anyway, in keys it never does")
	}
	for i, cidr := range id.TrustedCIDRs {
		if _, err := ParseCIDR(cidr); err != nil {
			k.add(index("identity.trusted_cidrs", i), "want an address or a network, such as 10.0.0.0/8")
		}
	}
	seen := map[string]bool{}
	for i, s := range id.SigningKeys {
		key := index("identity.signing_keys", i)
		k.name(join(key, "id"), s.ID)
		if s.Secret == "" {
			k.add(join(key, "secret"), "missing: the secret that signatures are made with")
		}
		k.once(seen, join(key, "id"), s.ID)
	}
	k.keys()
	needs := map[string]struct {
		there bool
		what  string
	}{
		"trusted_proxy": {len(id.TrustedCIDRs) > 0, "identity.trusted_cidrs: the networks whose identity headers are believed"},
		"signed":        {len(id.SigningKeys) > 0, "identity.signing_keys: [{id, secret}]"},
		"keys":          {len(id.Keys) > 0, "identity.keys: [{name, key}]"},
	}
	if need, ok := needs[id.Mode]; ok && !need.there {
		k.add("identity.mode", "%s needs %s", id.Mode, need.what)
	}
}

// believesOthers reports whether a program between the client and the router
// says who is spending.
func (id *Identity) believesOthers() bool { return id.Mode == "trusted_proxy" || id.Mode == "signed" }

// ParseCIDR reads a network, or an address as the network of itself.
func ParseCIDR(s string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(s); err == nil {
		return address.Prefix(address.BitLen())
	}
	return netip.ParsePrefix(s)
}

func (k *checker) keys() {
	names, secrets := map[string]bool{}, map[[sha256.Size]byte]bool{}
	for i, entry := range k.Identity.Keys {
		key := index("identity.keys", i)
		k.name(join(key, "name"), entry.Name)
		k.once(names, join(key, "name"), entry.Name)
		digest, err := hex.DecodeString(entry.SHA256.Reveal())
		sum := sha256.Sum256([]byte(entry.Key.Reveal()))
		if entry.SHA256 != "" {
			copy(sum[:], digest)
		}
		switch {
		case (entry.Key == "") == (entry.SHA256 == ""):
			k.add(key, "want either key or sha256")
		case entry.SHA256 != "" && (err != nil || len(digest) != 32):
			k.add(join(key, "sha256"), "want the key's SHA-256: 64 hexadecimal digits")
		case !sendable(entry.Key.Reveal()):
			k.add(join(key, "key"), "has a space at its end or a character that no HTTP header may have, such as a line break: nobody could send it")
		case secrets[sum]:
			k.add(key, "the same key as an entry above")
		}
		secrets[sum] = true
		for j, tier := range entry.Tiers {
			k.tierName(index(join(key, "tiers"), j), tier)
		}
		if entry.Tiers != nil && len(entry.Tiers) == 0 {
			k.add(join(key, "tiers"), "no tier at all; leave it out to allow all")
		}
	}
}

// sendable says whether a bearer token arrives as it was sent.
func sendable(token string) bool {
	return token == strings.TrimSpace(token) && httpguts.ValidHeaderFieldValue(token)
}

var (
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	modelName = regexp.MustCompile(`^[!-+--~]{1,256}$`) // visible ASCII but for the comma
)

// name checks a name that stands in headers, metrics and logs.
func (k *checker) name(key, name string) {
	switch {
	case name == "" && !k.has(key):
		k.add(key, "missing")
	case !plainName.MatchString(name):
		k.add(key, "want a name of letters, digits, dot, dash and underscore, at most 64 of them")
	}
}

func (k *checker) once(seen map[string]bool, key, name string) {
	if seen[name] && name != "" {
		k.add(key, "%q stands twice", k.written(key, name))
	}
	seen[name] = true
}

func (k *checker) tierName(key, name string) {
	if names := k.TierNames(); !slices.Contains(names, name) {
		k.add(key, "unknown tier %q%s", k.written(key, name), Suggest(name, names))
	}
}

func (k *checker) tiers() {
	if len(k.Tiers) == 0 {
		k.add("tiers", "missing: at least one tier with an upstream is needed")
	}
	names := map[string]bool{}
	for i := range k.Tiers {
		t := &k.Tiers[i]
		key := join("tiers", t.Name)
		if t.Name == "auto" || !plainName.MatchString(t.Name) {
			k.add(key, "want a tier's name of letters, digits, dot, dash and underscore, and not auto")
		}
		if len(t.Upstreams) == 0 {
			k.add(key, "no upstream in it")
		}
		k.positive(join(key, "max_output_tokens"), t.MaxOutputTokens)
		for j := range t.Upstreams {
			k.upstream(&t.Upstreams[j], names)
			if k.has(join(t.Upstreams[j].Path, "weight")) && t.Balance != "weighted" {
				k.add(join(t.Upstreams[j].Path, "weight"), "only counts with balance: weighted on the tier")
			}
		}
	}
	if k.Fallback == "" && len(k.Tiers) > 0 {
		k.Fallback = k.Tiers[0].Name
	} else if k.Fallback != "" {
		k.tierName("fallback", k.Fallback)
	}
}

func (k *checker) embeddings() {
	names := map[string]bool{}
	for i := range k.Embeddings {
		u := &k.Embeddings[i]
		u.Path = index("embeddings", i)
		k.upstream(u, names)
		for _, name := range []string{"weight", "max_output_tokens", "params", "on_abort"} {
			if k.has(join(u.Path, name)) {
				k.add(join(u.Path, name), "has no effect on embeddings")
			}
		}
		for _, name := range []string{"first_event", "idle"} {
			if key := join(join(u.Path, "timeouts"), name); k.has(key) {
				k.add(key, "has no effect on embeddings, which are no streams")
			}
		}
	}
}

func (k *checker) upstream(u *Upstream, names map[string]bool) {
	known, ok := providers[u.Provider]
	switch {
	case u.Provider == "":
		k.add(join(u.Path, "provider"), "missing%s", Suggest("", providerNames()))
		return
	case !ok:
		k.add(join(u.Path, "provider"), "unknown provider %q%s; any OpenAI-compatible API is provider openai with a base_url",
			k.written(join(u.Path, "provider"), u.Provider), Suggest(u.Provider, providerNames()))
		return
	case u.Model == "":
		k.add(join(u.Path, "model"), "missing: the model's name at %s", u.Provider)
		return
	case !modelName.MatchString(u.Model):
		k.add(join(u.Path, "model"), "want visible ASCII without spaces and commas")
	}
	k.upstreamName(u, names)
	k.address(u, known)
	k.credential(u, known)
	k.headers(u)
	k.price(u)
	k.params(u)
	k.certificates(u)
	k.timeouts(join(u.Path, "timeouts"), u.Timeouts)
	k.positive(join(u.Path, "weight"), int64(u.Weight))
	k.positive(join(u.Path, "max_output_tokens"), u.MaxOutputTokens)
	k.capabilities(u)
}

// translated are the capabilities that say how to translate a chat.
var translated = []string{"sampling", "reasoning", "structured_output", "tools", "tool_choice", "documents", "stop", "system", "cache", "stream_tools"}

// embeddingFamily checks the one capability that matters to embeddings: the
// model behind an id that does not tell it.
func (k *checker) embeddingFamily(key string, u *Upstream) {
	for _, name := range append([]string{"images", "context", "max_output"}, translated...) {
		if k.has(join(key, name)) {
			k.add(join(key, name), "has no effect on embeddings; they take family")
		}
	}
	switch family := join(key, "family"); {
	case !k.has(family):
	case u.Dialect() != DialectBedrock:
		k.add(family, "has no effect on provider %s, whose embeddings are not translated", u.Provider)
	default:
		if _, err := translate.BedrockEmbedding(u.Capabilities.Family); err != nil {
			k.add(family, "%v", err)
		}
	}
}

// capabilities of an API that requests are passed through to say where to send
// them; how to translate them is asked of Bedrock and Anthropic only.
func (k *checker) capabilities(u *Upstream) {
	key := join(u.Path, "capabilities")
	if strings.HasPrefix(u.Path, "embeddings") {
		k.embeddingFamily(key, u)
		return
	}
	k.positive(join(key, "context"), u.Capabilities.Context)
	k.positive(join(key, "max_output"), u.Capabilities.MaxOutput)
	if d := u.Dialect(); d == DialectBedrock || d == DialectAnthropic {
		if err := u.Capabilities.Validate(); err != nil && u.Capabilities.Family != "" {
			k.add(join(key, "family"), "%s", strings.TrimPrefix(err.Error(), "family: "))
		}
		return
	}
	for _, name := range append([]string{"family"}, translated...) {
		if k.has(join(key, name)) {
			k.add(join(key, name), "has no effect on provider %s, whose requests are not translated; it takes images, context and max_output", u.Provider)
		}
	}
}

func (k *checker) upstreamName(u *Upstream, names map[string]bool) {
	key := join(u.Path, "name")
	if u.Name == "" {
		u.Name = u.Provider + "/" + u.Model
	}
	switch {
	case !modelName.MatchString(u.Name):
		k.add(key, "want visible ASCII without spaces and commas")
	case u.Name == "auto" || slices.Contains(k.TierNames(), u.Name):
		k.add(key, "%q is a tier's name or auto; choose another", k.written(key, u.Name))
	case names[u.Name]:
		k.add(u.Path, "a second upstream called %q; give one of them another `name`", u.Name)
	}
	names[u.Name] = true
}

// dialect checks the API that an upstream is spoken to in.
func (k *checker) dialect(u *Upstream) {
	switch {
	case u.API == "" || u.API == "auto", u.Dialect() == DialectOpenAI, u.Dialect() == DialectAnthropic && u.API == "messages":
	case u.Dialect() == DialectAnthropic:
		k.add(join(u.Path, "api"), "provider anthropic speaks messages; other dialects are translated to it")
	default:
		k.add(join(u.Path, "api"), "provider %s has one API; leave api out", u.Provider)
	}
}

// cors checks the origins of web pages that may call.
func (k *checker) cors() {
	for i, origin := range k.Server.CORS.Origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil) {
			k.add(index("server.cors.origins", i), "expected an origin such as https://app.example.com, without a path, or *")
		}
	}
	if key := k.Responses.Key.Reveal(); key != "" && len(key) < 16 {
		k.add("responses.key", "expected at least 16 characters")
	}
}

// address checks where the upstream is, and fills in what the provider presets.
func (k *checker) address(u *Upstream, known Provider) {
	k.dialect(u)
	openAI := u.Dialect() == DialectOpenAI
	wrong := map[string]bool{
		"base_url": u.BaseURL != "" && !openAI,
		"endpoint": u.Endpoint != "" && (openAI || u.Dialect() == DialectSimulated),
		"region":   u.Region != "" && u.Dialect() != DialectBedrock,
		"profile":  u.Profile != "" && u.Dialect() != DialectBedrock,
		// Others have one field for it, and it is known.
		"limit_field": u.LimitField != "" && !openAI,
	}
	instead := map[string]string{"base_url": "; use endpoint", "endpoint": "; use base_url"}
	for _, name := range slices.Sorted(maps.Keys(wrong)) {
		if wrong[name] && u.Dialect() == DialectSimulated {
			k.add(join(u.Path, name), "provider simulated is not called anywhere")
		} else if wrong[name] {
			k.add(join(u.Path, name), "not for provider %s%s", u.Provider, instead[name])
		}
	}
	k.url(join(u.Path, "base_url"), u.BaseURL)
	k.url(join(u.Path, "endpoint"), u.Endpoint)
	switch {
	case openAI && u.BaseURL == "" && known.baseURL == "":
		k.add(join(u.Path, "base_url"), "missing: provider %s has an address of your own, such as https://RESOURCE.openai.azure.com/openai/v1", u.Provider)
	case openAI && u.BaseURL == "":
		u.BaseURL = known.baseURL
	case u.Dialect() == DialectAnthropic && u.Endpoint == "":
		u.Endpoint = known.baseURL
	}
}

// secretInQuery is what the names of credentials in a query have in them.
var secretInQuery = regexp.MustCompile(`(?i)(key|token|secret|sig|pass|auth)[^&=]*=`)

// url checks an address. It is not repeated in the message: it may hold a key,
// which is one reason to refuse it.
func (k *checker) url(key, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Port() != "" && !isPort(u.Port()):
		k.add(key, "want an address such as https://host/v1")
	case u.User != nil || u.Fragment != "" || secretInQuery.MatchString(u.RawQuery):
		k.add(key, "want an address without a credential in it; put keys into api_key or headers")
	}
}

func (k *checker) credential(u *Upstream, known Provider) {
	key := join(u.Path, "api_key")
	if u.APIKeyFile != "" {
		key += "_file"
		k.keyFile(key, u)
	}
	preset := u.BaseURL == known.baseURL || known.baseURL == ""
	if u.Dialect() == DialectAnthropic {
		preset = u.Endpoint == known.baseURL
	}
	switch {
	case u.Dialect() == DialectSimulated && u.APIKey != "":
		k.add(key, "provider simulated takes no key")
	case u.Dialect() == DialectBedrock && u.APIKey == ClientKey:
		k.add(key, "a caller's bearer token is not an AWS credential")
	case u.APIKey == ClientKey && k.Identity.Mode == "keys":
		k.add(key, "in identity.mode keys the caller's token is a key of this router, which no upstream may see")
	case !httpguts.ValidHeaderFieldValue(u.APIKey.Reveal()):
		k.add(key, "has a character that no HTTP header may have, such as a line break")
	case u.APIKey != "" || known.keyVariable == "" || !preset:
	default:
		value, _ := k.lookup(known.keyVariable)
		u.APIKey = translate.Secret(value)
		if value == "" && !known.keyOptional && len(u.Headers) == 0 {
			k.add(key, "no key: set %s, or api_key here", known.keyVariable)
		}
	}
}

// keyFile takes the key out of its file.
func (k *checker) keyFile(key string, u *Upstream) {
	if k.has(join(u.Path, "api_key")) {
		k.add(key, "api_key is there, too: leave one of the two out")
		return
	}
	text, err := secretFromFile(u.APIKeyFile)
	if err != nil {
		k.add(key, "%v", err)
		return
	}
	u.APIKey = translate.Secret(text)
}

// ClientKey as api_key forwards the caller's own bearer token.
const ClientKey translate.Secret = "client"

func (k *checker) headers(u *Upstream) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(u.Headers)) {
		key := join(join(u.Path, "headers"), name)
		lower := strings.ToLower(name)
		switch {
		case seen[lower]:
			k.add(key, "stands twice: case makes no difference in a header's name")
		case !httpguts.ValidHeaderFieldName(name):
			k.add(key, "not a header's name")
		case !httpguts.ValidHeaderFieldValue(u.Headers[name].Reveal()):
			k.add(key, "has a character that no HTTP header may have")
		case slices.Contains([]string{"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade", "accept-encoding"}, lower),
			strings.HasPrefix(lower, "x-router-"):
			k.add(key, "set by the router itself")
		}
		seen[lower] = true
	}
}

// price settles what a call of the upstream is billed at.
func (k *checker) price(u *Upstream) {
	key := join(u.Path, "price")
	if u.Price != nil && !k.configuredPrice(key, u.Price, strings.HasPrefix(u.Path, "embeddings")) {
		return
	}
	u.Billed, u.Guessed = priceOf(u)
	switch {
	case u.Guessed == "" || !k.hardBudget():
	case u.Billed.Guess:
		k.add(key, "%s; a budget that rejects needs a price that is certain", u.Guessed)
	default:
		k.add(key, "no price is known for %s, and a budget that rejects needs one: price: {input: ..., output: ...} in US dollars per million tokens, 0 where it is free", u.Name)
	}
}

// configuredPrice checks a price and those of its tiers, and reports whether
// they are complete.
func (k *checker) configuredPrice(key string, p *Price, embeds bool) bool {
	told := len(k.problems)
	switch {
	case p.Input == nil:
		k.add(key, "input is missing: US dollars per million prompt tokens")
	case p.Output == nil && !embeds:
		k.add(key, "output is missing: US dollars per million answer tokens")
	}
	for name, rate := range map[string]*USD{"audio_input": p.AudioInput, "audio_output": p.AudioOutput, "per_search": p.PerSearch} {
		if rate != nil && *rate == 0 {
			k.add(join(key, name), "want more than 0; leave it out where there is no such price")
		}
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.Tiers)) {
		key, tier := join(join(key, "tiers"), name), p.Tiers[name].Price
		switch {
		case budget.StandardTier(name) || strings.ToLower(name) == "auto":
			k.add(key, "not another tier: the price itself is that of the standard one")
		case seen[strings.ToLower(name)]:
			k.add(key, "stands twice: case makes no difference in a tier's name")
		case tier != nil && tier.Tiers != nil:
			k.add(join(key, "tiers"), "a tier has no tiers of its own")
		case tier != nil:
			k.configuredPrice(key, tier, embeds)
		}
		seen[strings.ToLower(name)] = true
	}
	return len(k.problems) == told
}

// hardBudget reports whether some budget may refuse a request.
func (c *Config) hardBudget() bool {
	return slices.ContainsFunc(c.Budgets, func(b Budget) bool { return b.OnExhausted == "reject" }) ||
		slices.ContainsFunc(c.Identity.Keys, func(k Key) bool { return k.Budget != nil })
}

// params refuses fields that the router itself depends on: what is asked, how
// the answer comes, and how long it may be, which is what gets reserved.
func (k *checker) params(u *Upstream) {
	instead := map[string]string{
		"model": "model", "messages": "", "stream": "", "stream_options": "", "n": "",
		"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
	}
	k.dropped(u)
	for section, fields := range map[string]map[string]JSONValue{"set": u.Params.Set, "default": u.Params.Default} {
		for name := range fields {
			key := join(join(join(u.Path, "params"), section), name)
			if use, reserved := instead[name]; reserved {
				if use != "" {
					use = "; use the upstream's " + use
				}
				k.add(key, "not a field that can be set here%s", use)
			}
			if section == "set" && u.Params.Default[name] != "" {
				k.add(key, "also in params.default, where it would never count")
			}
		}
	}
}

// certificates checks the files of an upstream's TLS.
func (k *checker) certificates(u *Upstream) {
	address := u.BaseURL + u.Endpoint
	switch {
	case u.CAFile == "" && u.CertFile == "" && u.KeyFile == "":
	case u.Dialect() == DialectSimulated || strings.HasPrefix(address, "http://"):
		for _, name := range []string{"ca_file", "cert_file", "key_file"} {
			if k.has(join(u.Path, name)) {
				k.add(join(u.Path, name), "is for an upstream that is reached over https")
			}
		}
	case u.CertFile == "" && u.KeyFile != "":
		k.add(join(u.Path, "key_file"), "needs cert_file beside it")
	case u.CertFile != "" && u.KeyFile == "":
		k.add(join(u.Path, "cert_file"), "needs key_file beside it")
	default:
		if _, err := u.TLS(); err != nil {
			key, why, _ := strings.Cut(err.Error(), ": ")
			k.add(key, "%s", why)
		}
	}
}

// dropped refuses to take out what the router itself depends on.
func (k *checker) dropped(u *Upstream) {
	for i, name := range u.Params.Drop {
		key := index(join(join(u.Path, "params"), "drop"), i)
		switch name {
		case "":
			k.add(key, "expected the name of a request field")
		case "model", "messages", "stream", "stream_options", "n":
			k.add(key, "%s cannot be dropped: the router depends on it", name)
		case "max_tokens", "max_completion_tokens":
			k.add(key, "%s cannot be dropped: limit_field says which of the two the upstream reads", name)
		}
		if _, set := u.Params.Set[name]; set {
			k.add(key, "also in params.set, where it would never count")
		}
	}
}

func (k *checker) timeouts(key string, t Timeouts) {
	for name, v := range map[string]Duration{"connect": t.Connect, "first_event": t.FirstEvent, "idle": t.Idle, "total": t.Total} {
		if v == 0 && k.has(join(key, name)) {
			k.add(join(key, name), "want more than 0: no call waits for ever")
		}
	}
}

// positive checks a number that may be left out but not be 0 or less.
func (k *checker) positive(key string, n int64) {
	if n < 0 || n == 0 && k.has(key) {
		k.add(key, "want more than 0")
	}
}

func (k *checker) strategies() {
	seen := map[string]bool{}
	for i := range k.Strategy {
		s := &k.Strategy[i]
		key := join(s.Path, s.Name())
		if seen[s.Name()] {
			k.add(s.Path, "a second %s strategy", s.Name())
		}
		seen[s.Name()] = true
		switch {
		case s.Cost != nil:
			k.cost(key, s.Cost)
		case s.Latency != nil:
			k.latency(key, s.Latency)
		case s.Complexity != nil:
			k.complexity(key, s.Complexity)
		}
	}
}

func (k *checker) cost(key string, c *Cost) {
	list := join(key, "tiers_by_cost")
	seen := map[string]bool{}
	for i, name := range c.TiersByCost {
		k.tierName(index(list, i), name)
		k.once(seen, index(list, i), name)
	}
	if c.DowngradeAt <= 0 || c.DowngradeAt > 1 {
		k.add(join(key, "downgrade_at"), "want a fraction of the budget, above 0 and at most 1")
	}
	if c.FloorAt < c.DowngradeAt || c.FloorAt > 1 {
		k.add(join(key, "floor_at"), "want a fraction of the budget between downgrade_at (%v) and 1", c.DowngradeAt)
	}
}

func (k *checker) latency(key string, l *Latency) {
	k.positive(join(key, "sla_ms"), l.SLA)
	if l.TTFTSLA < 0 {
		k.add(join(key, "ttft_sla_ms"), "want 0 or more")
	}
	for _, name := range slices.Sorted(maps.Keys(l.TierSLAs)) {
		k.tierName(join(join(key, "tier_slas"), name), name)
		k.positive(join(join(key, "tier_slas"), name), l.TierSLAs[name])
	}
	for name, tier := range map[string]string{"preferred_tier": l.PreferredTier, "fallback_tier": l.FallbackTier} {
		if tier != "" {
			k.tierName(join(key, name), tier)
		}
	}
	if l.WindowSize < 1 || l.WindowSize > 1000 {
		k.add(join(key, "window_size"), "want 1 to 1000 answers")
	}
	if l.MinSamples < 1 || l.MinSamples > l.WindowSize {
		k.add(join(key, "min_samples"), "want 1 to window_size (%d) answers", l.WindowSize)
	}
}

// harnessTag is a name that a reason in a header can show and that a tag can
// have.
var harnessTag = regexp.MustCompile(`^[A-Za-z0-9_.:-]+( [A-Za-z0-9_.:-]+)*$`)

func (k *checker) harness(key string, tags []string) {
	seen := map[string]bool{}
	for i, tag := range tags {
		if !harnessTag.MatchString(tag) {
			k.add(index(key, i), "expected the name of a tag without brackets, such as system-reminder")
		}
		k.once(seen, index(key, i), tag)
	}
}

func (k *checker) complexity(key string, c *Complexity) {
	k.harness(join(key, "harness"), c.Harness)
	for _, name := range slices.Sorted(maps.Keys(c.Rules)) {
		rule := join(join(key, "rules"), name)
		k.tierName(rule, name)
		if r := c.Rules[name]; r[0] < 0 || r[1] > 10 || r[0] >= r[1] {
			k.add(rule, "want [from, to] of the score, 0 to 10, from below to")
		}
	}
	ordered := slices.SortedFunc(maps.Keys(c.Rules), func(a, b string) int {
		return int(1000*c.Rules[a][0]) - int(1000*c.Rules[b][0])
	})
	for i := 1; i < len(ordered); i++ {
		if a, b := ordered[i-1], ordered[i]; c.Rules[b][0] < c.Rules[a][1] {
			k.add(join(join(key, "rules"), b), "overlaps with the range of %s", a)
		}
	}
}

var days = regexp.MustCompile(`^[1-9][0-9]{0,2}d$`)

func (k *checker) budgets() {
	type bucket struct{ scope, per, zone string }
	seen := map[bucket]bool{}
	for i, b := range k.Budgets {
		key := index("budgets", i)
		if b.Scope == "" {
			k.add(join(key, "scope"), "missing: global, user or key")
		}
		if b.USD == nil {
			k.add(join(key, "usd"), "missing: the limit in US dollars")
		}
		if !slices.Contains([]string{"hour", "day", "week", "month"}, b.Per) && !days.MatchString(b.Per) {
			k.add(join(key, "per"), "want hour, day, week, month, or a number of days such as 30d")
		}
		if _, err := time.LoadLocation(b.Timezone); err != nil || b.Timezone == "Local" {
			k.add(join(key, "timezone"), "want a time zone's name, such as UTC or Europe/Berlin")
		}
		if b.Scope == "key" && k.Identity.Mode != "keys" {
			k.add(join(key, "scope"), "a budget for each key needs identity.mode keys")
		}
		id := bucket{b.Scope, b.Per, b.Timezone}
		if seen[id] {
			k.add(key, "a second %s budget per %s", b.Scope, b.Per)
		}
		seen[id] = true
	}
	k.costBudget()
}

// costBudget checks that the cost strategy's own budget does not contradict
// the same one in `budgets`.
func (k *checker) costBudget() {
	for _, s := range k.Strategy {
		if s.Cost == nil || s.Cost.BudgetPerDay == nil {
			continue
		}
		for i, b := range k.Budgets {
			if b.isDaily() && b.USD != nil && *b.USD != *s.Cost.BudgetPerDay {
				k.add(join(join(s.Path, "cost"), "budget_usd_per_day"), "another amount than %s.usd, which is the same budget", index("budgets", i))
			}
		}
	}
}

func (k *checker) aliases() {
	targets := append(k.TierNames(), "auto")
	for _, upstreams := range append(k.UpstreamLists(), k.Embeddings) {
		for _, u := range upstreams {
			targets = append(targets, u.Name, u.Provider+"/"+u.Model, u.Model)
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(k.Models.Aliases)) {
		key, target := join("models.aliases", alias), k.Models.Aliases[alias]
		if alias == "auto" || slices.Contains(k.TierNames(), alias) {
			k.add(key, "%q is a tier's name or auto already", alias)
		}
		if !slices.Contains(targets, target) {
			k.add(key, "%q is no tier, upstream or model of this file, nor auto%s", k.written(key, target), didYouMean(target, targets))
		}
	}
}

// UpstreamLists are the tiers' upstreams, tier by tier.
func (c *Config) UpstreamLists() [][]Upstream {
	var all [][]Upstream
	for _, t := range c.Tiers {
		all = append(all, t.Upstreams)
	}
	return all
}

func (k *checker) redisFiles() {
	r := k.Redis
	switch plain := r.URL != "" && !strings.HasPrefix(r.URL.Reveal(), "rediss://"); {
	case plain && r.CAFile != "":
		k.add("redis.ca_file", "is for a redis.url that begins with rediss://")
	case plain && r.CertFile != "":
		k.add("redis.cert_file", "is for a redis.url that begins with rediss://")
	case r.CertFile == "" && r.KeyFile != "":
		k.add("redis.key_file", "wants redis.cert_file beside it")
	case r.CertFile != "" && r.KeyFile == "":
		k.add("redis.cert_file", "wants redis.key_file beside it")
	default:
		if _, err := r.TLS(); err != nil {
			key, why, _ := strings.Cut(err.Error(), ": ")
			k.add(key, "%s", why)
		}
	}
}

func (k *checker) redis() {
	if k.Redis.Prefix == "" || strings.ContainsAny(k.Redis.Prefix, " {}*\n") {
		k.add("redis.prefix", "want a prefix of keys, without spaces, braces and stars")
	}
	if k.Redis.URL != "" {
		// Opening connects to nothing.
		if client, err := redisclient.New(redisclient.Config{URL: k.Redis.URL.Reveal()}); err != nil {
			k.add("redis.url", "%v", err)
		} else {
			_ = client.Close()
		}
	}
	if k.Redis.URL == "" && k.Redis.Username != "" {
		k.add("redis.username", "is for a redis.url")
	}
	if k.Redis.URL == "" && k.Redis.Password != "" {
		k.add("redis.password", "is for a redis.url")
	}
	k.redisFiles()
	if lease := time.Duration(k.Redis.Lease); lease < 5*time.Second || lease > time.Hour {
		k.add("redis.lease", "want 5s to 1h")
	}
	if wait := time.Duration(k.Redis.Timeout); wait < 50*time.Millisecond || wait > 30*time.Second {
		k.add("redis.timeout", "want 50ms to 30s")
	}
}

func (k *checker) rest() {
	k.timeouts("timeouts", k.Timeouts)
	if k.Retries.MaxAttempts < 1 || k.Retries.MaxAttempts > 20 {
		k.add("retries.max_attempts", "want 1 to 20")
	}
	if k.Retries.Budget < 0 || k.Retries.Budget > 1 {
		k.add("retries.retry_budget", "want a share of the requests, 0 to 1")
	}
	k.redis()
	for i, host := range k.Translate.ImageHosts {
		if host == "" || strings.ContainsAny(host, " /@") {
			k.add(index("translate.image_hosts", i), "want a host name such as images.example.com")
		}
	}
	if len(k.Translate.ImageHosts) > 0 && !k.Translate.RemoteImages {
		k.add("translate.image_hosts", "has no effect without remote_images: true")
	}
}
