package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// Mode says whose word on who is spending is believed.
type Mode string

// Identity modes.
const (
	ModeSidecar      Mode = "sidecar"       // whoever reaches the listener, which is local
	ModeTrustedProxy Mode = "trusted_proxy" // peers in TrustedCIDRs
	ModeKeys         Mode = "keys"          // the API key's own entry
	ModeSigned       Mode = "signed"        // headers with a valid signature
)

// Identity is the section of the configuration that says who is who.
type Identity struct {
	Mode            Mode // "" means ModeSidecar
	RejectAnonymous bool // a request without a user gets 401
	// Body lets the body name the user and narrow the budget in ModeTrustedProxy
	// and ModeSigned; in ModeSidecar it may anyway, in ModeKeys it never does.
	Body         bool
	TrustedCIDRs []netip.Prefix
	Keys         []Key
	SigningKeys  []SigningKey
}

// Key is an API key of this proxy.
type Key struct {
	Name   string
	SHA256 [sha256.Size]byte // of the key's bytes; the key itself is not kept
	User   string            // who it speaks for; "*" lets the request choose, "" means Name
	Tiers  []string          // tiers it may use; nil means all
	// Budget is the key's own hard daily budget; 0 means none unless HasBudget.
	Budget    budget.Nanodollars
	HasBudget bool
	Admin     bool
}

// SigningKey is a shared secret that signs identity headers.
type SigningKey struct {
	ID     string
	Secret []byte
}

// anonymousUser is the bucket of requests that name nobody.
const anonymousUser = "anonymous"

// Signatures are valid this long, and this far ahead for clocks that differ.
const (
	signatureAge  = 5 * time.Minute
	signatureSkew = time.Minute
)

// Request headers of ours. They never reach an upstream.
const (
	headerTier      = "X-Router-Tier"
	headerUser      = "X-Router-User"
	headerBudget    = "X-Router-Budget-Usd"
	headerMaxCost   = "X-Router-Max-Cost-Usd"
	headerSession   = "X-Router-Session"
	headerTags      = "X-Router-Tags"
	headerSignature = "X-Router-Signature"
)

// How two of them are written where people read them.
const (
	paramBudget  = "X-Router-Budget-USD"
	paramMaxCost = "X-Router-Max-Cost-USD"
)

const (
	maxUserBytes   = 256
	maxHeaderBytes = 1024 // of any other header of ours
)

// account is who pays for a request and what the request's headers ask for.
type account struct {
	user   string // "" until the body has been asked, then at least anonymousUser
	key    *Key
	admin  bool
	client string // the caller's own bearer token, for upstreams with api_key: client
	// forward are the headers that go on to a pass-through upstream, by
	// canonical name; nil when there are none.
	forward map[string]string

	// bodyNames says that the body may name the user and the budget.
	bodyNames bool
	narrows   bool // what the body says of the budget can only make it smaller
	hasBudget bool
	budget    budget.Nanodollars // this user's daily budget by header or metadata

	tier       string
	hasMaxCost bool
	maxCost    budget.Nanodollars
	session    string // the conversation; until the body has been asked, by X-Router-Session alone
	agent      string // the conversation by a coding agent's own header
	tags       string
}

// ownHeaders are the values of our request headers, each at most once.
type ownHeaders struct {
	tier, user, budget, maxCost, session, tags, signature string
}

// identify says who asks, by the headers and the connection. The body may
// still name the user: see name.
func (s *setup) identify(r *http.Request) (account, error) {
	h, err := readOwnHeaders(r.Header)
	if err != nil {
		return account{}, err
	}
	a := account{tier: h.tier, session: h.session, agent: agentSession(r.Header), tags: h.tags, client: bearer(r.Header), forward: forwardable(r.Header)}
	if a.hasMaxCost = h.maxCost != ""; a.hasMaxCost {
		if a.maxCost, err = headerUSD(paramMaxCost, h.maxCost); err != nil {
			return account{}, err
		}
	}
	key := s.lookupKey(a.client)
	if key != nil {
		a.client = "" // our key is nothing to an upstream
	}
	a.admin = key != nil && key.Admin || s.Identity.Mode == ModeSidecar
	switch s.Identity.Mode {
	case ModeTrustedProxy:
		err = s.identifyPeer(&a, h, r.RemoteAddr)
	case ModeKeys:
		err = identifyKey(&a, h, key)
	case ModeSigned:
		err = s.identifySigned(&a, h)
	default:
		a.bodyNames = true
		err = a.believe(h)
	}
	return a, err
}

// believe takes identity headers at their word.
func (a *account) believe(h ownHeaders) error {
	if h.user != "" {
		if err := checkUser(headerUser, h.user); err != nil {
			return err
		}
		a.user = h.user
	}
	if h.budget == "" {
		return nil
	}
	n, err := headerUSD(paramBudget, h.budget)
	a.budget, a.hasBudget = n, true
	return err
}

func (s *setup) identifyPeer(a *account, h ownHeaders, peer string) error {
	if s.trusted(peer) {
		a.bodyNames, a.narrows = s.Identity.Body, true
		return a.believe(h)
	}
	if h.user != "" || h.budget != "" || h.signature != "" {
		return forbidden("identity headers are only accepted from the addresses in identity.trusted_cidrs")
	}
	return nil
}

// trusted judges the TCP peer; a peer on a unix socket has no address and has
// passed the socket's file mode.
func (s *setup) trusted(peer string) bool {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return !strings.Contains(peer, ":")
	}
	addr := ap.Addr().Unmap().WithZone("")
	for _, p := range s.Identity.TrustedCIDRs {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func identifyKey(a *account, h ownHeaders, key *Key) error {
	if key == nil {
		return unauthorized("a valid API key of this proxy is needed: Authorization: Bearer <key>")
	}
	a.key = key
	if err := a.believe(h); err != nil {
		return err
	}
	fixed := key.User
	if fixed == "*" {
		return nil
	}
	if fixed == "" {
		fixed = key.Name
	}
	if a.user != "" && a.user != fixed {
		return forbidden("this key speaks for another user than %s names", headerUser)
	}
	a.user = fixed
	return nil
}

func (s *setup) identifySigned(a *account, h ownHeaders) error {
	if h.user == "" && h.budget == "" && h.signature == "" {
		return nil
	}
	if !s.validSignature(h, time.Now()) {
		return &refusal{Status: http.StatusUnauthorized, Type: typeAuth, Code: "invalid_signature",
			Message: "X-Router-User and X-Router-Budget-USD need a valid X-Router-Signature that is not older than 5 minutes"}
	}
	a.bodyNames, a.narrows = s.Identity.Body, true
	return a.believe(h)
}

// validSignature checks t=<unix>,k=<id>,v1=<hex HMAC-SHA-256 over
// "v1\n<k>\n<t>\n<user>\n<budget>">.
func (s *setup) validSignature(h ownHeaders, now time.Time) bool {
	var at, id, mac string
	for part := range strings.SplitSeq(h.signature, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			at = value
		case "k":
			id = value
		case "v1":
			mac = value
		}
	}
	unix, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return false
	}
	if age := now.Sub(time.Unix(unix, 0)); age > signatureAge || age < -signatureSkew {
		return false
	}
	got, err := hex.DecodeString(mac)
	if err != nil {
		return false
	}
	for _, k := range s.Identity.SigningKeys {
		if k.ID == id {
			m := hmac.New(sha256.New, k.Secret)
			fmt.Fprintf(m, "v1\n%s\n%s\n%s\n%s", id, at, h.user, h.budget)
			return hmac.Equal(got, m.Sum(nil))
		}
	}
	return false
}

// lookupKey finds a key by the hash of all its bytes, so that neither the time
// it takes nor a prefix says anything.
func (s *setup) lookupKey(token string) *Key {
	if token == "" || len(s.keys) == 0 {
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	k := s.keys[sum]
	if k == nil || subtle.ConstantTimeCompare(k.SHA256[:], sum[:]) != 1 {
		return nil
	}
	return k
}

// name completes the account with what the body says, where it is believed.
func (a *account) name(r *translate.Request, rejectAnonymous bool) error {
	a.converse(r)
	if a.bodyNames {
		if err := a.nameByBody(r); err != nil {
			return err
		}
	}
	if a.user == "" {
		if rejectAnonymous {
			return &refusal{Status: http.StatusUnauthorized, Type: typeAuth, Code: "user_required",
				Message: "this proxy needs to know who is asking: send " + headerUser}
		}
		a.user = anonymousUser
	}
	return nil
}

// converse finds the conversation: by X-Router-Session, else by the body's
// prompt_cache_key, else by an agent's header.
func (a *account) converse(r *translate.Request) {
	if a.session != "" {
		return
	}
	if key := r.PromptCacheKey(); fitSession(key) {
		a.session = key
		return
	}
	a.session = a.agent
}

// agentSession is the conversation as coding agents name it in headers of their
// own. These were not written for this proxy: one that is unfit is passed over.
func agentSession(header http.Header) string {
	for _, name := range [...]string{"X-Claude-Code-Session-Id", "Session-Id"} {
		if v := header[name]; len(v) == 1 && fitSession(v[0]) {
			return v[0]
		}
	}
	return ""
}

func fitSession(s string) bool { return s != "" && len(s) <= maxHeaderBytes && printable(s) }

func (a *account) nameByBody(r *translate.Request) error {
	if a.user == "" {
		for _, by := range []struct{ param, user string }{
			{"metadata.user_id", r.MetadataUser}, {"user", r.User}, {"safety_identifier", r.SafetyIdentifier},
		} {
			if by.user == "" {
				continue
			}
			if err := checkUser(by.param, by.user); err != nil {
				return err
			}
			a.user = by.user
			break
		}
	}
	if r.MetadataBudget == "" || a.hasBudget && !a.narrows {
		return nil
	}
	n, err := headerUSD("metadata.budget_usd", r.MetadataBudget)
	if a.hasBudget { // by a header, which counts in place of the configured one
		a.budget, a.narrows = min(a.budget, n), false
		return err
	}
	a.budget, a.hasBudget = n, true
	return err
}

// forwardable picks the headers of a request that an upstream may see.
func forwardable(h http.Header) (forward map[string]string) {
	for _, name := range [...]string{"Traceparent", "Tracestate", "Idempotency-Key", "Openai-Beta", "Openai-Organization", "Openai-Project", "Anthropic-Beta", "Anthropic-Version"} {
		if v := h[name]; len(v) > 0 {
			if forward == nil {
				forward = map[string]string{}
			}
			forward[name] = v[0]
		}
	}
	return forward
}

// readOwnHeaders picks our headers out. A repeated, misspelt or malformed one
// is refused rather than guessed at: it decides who pays.
func readOwnHeaders(header http.Header) (ownHeaders, error) {
	var h ownHeaders
	for name, values := range header {
		if len(name) < 9 || (name[0]|0x20) != 'x' {
			continue
		}
		if strings.IndexByte(name, '_') >= 0 && isOwn(strings.ReplaceAll(name, "_", "-")) {
			return h, invalid(name, "header %q: write it with dashes", name)
		}
		dst := h.field(http.CanonicalHeaderKey(name))
		if dst == nil {
			continue
		}
		if len(values) != 1 {
			return h, invalid(name, "header %s must be sent once", name)
		}
		if err := checkHeaderValue(name, values[0]); err != nil {
			return h, err
		}
		*dst = values[0]
	}
	return h, nil
}

func isOwn(name string) bool { return new(ownHeaders).field(http.CanonicalHeaderKey(name)) != nil }

func (h *ownHeaders) field(name string) *string {
	switch name {
	case headerTier:
		return &h.tier
	case headerUser:
		return &h.user
	case headerBudget:
		return &h.budget
	case headerMaxCost:
		return &h.maxCost
	case headerSession:
		return &h.session
	case headerTags:
		return &h.tags
	case headerSignature:
		return &h.signature
	}
	return nil
}

func checkHeaderValue(name, v string) error {
	switch {
	case v == "":
		return invalid(name, "header %s must not be empty", name)
	case len(v) > maxHeaderBytes:
		return invalid(name, "header %s must not be longer than %d bytes", name, maxHeaderBytes)
	case !printable(v):
		return invalid(name, "header %s must be valid UTF-8 without control characters", name)
	}
	return nil
}

func checkUser(param, user string) error {
	if len(user) > maxUserBytes || !printable(user) {
		return invalid(param, "%s must be valid UTF-8 without control characters, at most %d bytes", param, maxUserBytes)
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || 0x7f <= r && r <= 0x9f || misleads(r) {
			return false
		}
	}
	return true
}

// misleads reports whether a character changes how others are shown: marks of
// direction (UAX 9) and separators of lines.
func misleads(r rune) bool {
	switch {
	case r == 0x061c, r == 0x200e, r == 0x200f, 0x2028 <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069:
		return true
	}
	return false
}

func headerUSD(param, v string) (budget.Nanodollars, error) {
	n, err := budget.ParseUSD(v)
	if err != nil {
		return 0, invalid(param, "%s must be dollars such as 2.50: up to nine digits, a point and up to nine digits, under 9000000", param)
	}
	return n, nil
}

// bearer is the client's own credential, as the clients of OpenAI, Anthropic and
// Azure send it.
func bearer(h http.Header) string {
	const scheme = "bearer "
	if v := h.Get("Authorization"); len(v) > len(scheme) && strings.EqualFold(v[:len(scheme)], scheme) {
		return strings.TrimSpace(v[len(scheme):])
	}
	if key := h.Get("Api-Key"); key != "" {
		return key
	}
	return h.Get("X-Api-Key")
}

// allowedHost guards a loopback listener against DNS rebinding: a page that
// resolves its own name to 127.0.0.1 still sends that name.
func (s *setup) allowedHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	switch strings.ToLower(strings.Trim(name, "[]")) {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	for _, h := range s.Hosts {
		if strings.EqualFold(h, name) || strings.EqualFold(h, host) {
			return true
		}
	}
	return false
}
