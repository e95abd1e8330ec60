package config

import (
	"net"

	"github.com/inference-router/inference-router/translate"
)

// Guesses are the prices that nobody knows.
func (c *Config) Guesses() Problems {
	var all Problems
	for _, upstreams := range append(c.UpstreamLists(), c.Embeddings) {
		for _, u := range upstreams {
			if u.Guessed != "" {
				all = append(all, c.Problem(join(u.Path, "price"), "%s", u.Guessed))
			}
		}
	}
	return all
}

// Exposed are the listeners that others than this machine reach and that serve
// whoever names nobody.
func (c *Config) Exposed() (all Problems) {
	host, _, err := net.SplitHostPort(c.Server.Listen)
	if err == nil && !IsLoopback(host) && c.Identity.Anonymous == "allow" && c.Identity.believesOthers() {
		all = append(all, c.Problem("identity.anonymous", "anybody who reaches %s spends as the user %q without saying who it is; reject asks for a user", c.Server.Listen, "anonymous"))
	}
	return all
}

// Strangers are the models that the table of capabilities does not name: what
// they take is a guess, by a model of their kind.
func (c *Config) Strangers() (all Problems) {
	for _, upstreams := range c.UpstreamLists() {
		for _, u := range upstreams {
			if u.Provider != "bedrock" && u.Provider != "anthropic" || u.Capabilities.Family != "" {
				continue
			}
			if like := translate.GuessedCapabilities(u.Provider, u.Model); like != "" {
				all = append(all, c.Problem(join(u.Path, "model"), "what %s takes is a guess, by %s; capabilities corrects it", u.Model, like))
			}
		}
	}
	return all
}

// Idle is what is said of identities that the mode does not heed. Whoever wrote
// it may rely on it.
func (c *Config) Idle() (all Problems) {
	id := c.Identity
	note := func(there bool, key, mode string) {
		if there && id.Mode != mode {
			all = append(all, c.Problem(key, "has no effect in identity.mode %s, only in mode %s", id.Mode, mode))
		}
	}
	note(len(id.TrustedCIDRs) > 0, "identity.trusted_cidrs", "trusted_proxy")
	note(len(id.SigningKeys) > 0, "identity.signing_keys", "signed")
	for i, k := range id.Keys {
		key := index("identity.keys", i)
		if !k.Admin {
			note(true, key, "keys")
			continue
		}
		note(k.User != "", join(key, "user"), "keys")
		note(k.Tiers != nil, join(key, "tiers"), "keys")
		note(k.Budget != nil, join(key, "budget_usd_per_day"), "keys")
	}
	return all
}
