// Package redisclient makes the clients that speak to Redis: one parser of
// addresses and one set of options for the ledger, the latencies and the
// check of the configuration. It knows nothing of what is sent.
package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config says where Redis is and how long to wait for it. Only URL is required.
type Config struct {
	// URL is redis://, rediss:// or unix://. More addresses of a cluster follow
	// as ?addr=host:port, ?cluster=true says that a single one is a cluster's;
	// ?master_name=NAME makes it a sentinel's address. User and password before
	// a sentinel's host are the sentinels'; ?username= and ?password= are those
	// of the servers that they watch.
	URL string
	// Username and Password are the servers', instead of the URL's. "" leaves
	// those of the URL.
	Username, Password string
	// TLS completes what rediss:// means by authorities and a certificate of
	// this process; nil means the system's authorities and no certificate.
	TLS *tls.Config
	// Timeout bounds a dial, a write and the wait for a reply, each; a context
	// that ends earlier holds. 0 means a second.
	Timeout time.Duration
	// OnConnect is called with each new connection; an error closes it.
	OnConnect func(context.Context, *redis.Conn) error
}

// DefaultTimeout is what a Timeout of 0 means.
const DefaultTimeout = time.Second

// maxDials is how many connections are opened at once: replicas that all come
// back to a Redis that was away must not bury it.
const maxDials = 4

// errAddress names no part of the address: any may be one of a password that
// was not encoded.
var errAddress = errors.New("not a Redis address such as redis://host:6379/0, rediss://host:6380 or unix:///path; a password with /, @, :, ? or # belongs into redis.password")

// New makes a client; it does not connect. What is sent has ids of its own and
// is repeated by the sender, so the client repeats nothing. Errors do not
// repeat the address.
func New(c Config) (redis.UniversalClient, error) {
	redis.SetLogger(&logging.VoidLogger{}) // what matters is logged by the caller, once
	o, err := options(c)
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(o), nil
}

// IsCluster says whether the client is a cluster's.
func IsCluster(c redis.UniversalClient) bool {
	_, ok := c.(*redis.ClusterClient)
	return ok
}

func options(c Config) (*redis.UniversalOptions, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errAddress
	}
	query := u.Query()
	o := &redis.UniversalOptions{
		Addrs:         query["addr"],
		MasterName:    query.Get("master_name"),
		IsClusterMode: query.Get("cluster") == "true" || query.Has("addr") && !query.Has("master_name"),
		Username:      query.Get("username"),
		Password:      query.Get("password"),
	}
	for _, name := range []string{"addr", "master_name", "cluster", "username", "password"} {
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	if n := query.Get("db"); n != "" {
		if _, err := strconv.Atoi(n); err != nil {
			return nil, errAddress
		}
	}
	one, err := redis.ParseURL(u.String())
	if err != nil || strings.Contains(u.Host, ",") {
		return nil, errAddress
	}
	o.Addrs = append([]string{one.Addr}, o.Addrs...)
	o.DB = one.DB
	if o.MasterName != "" {
		o.SentinelUsername, o.SentinelPassword = one.Username, one.Password
	} else if o.Password == "" && o.Username == "" {
		o.Username, o.Password = one.Username, one.Password
	}
	if c.Username != "" {
		o.Username = c.Username
	}
	if c.Password != "" {
		o.Password = c.Password
	}
	o.TLSConfig = secured(one.TLSConfig, c.TLS)
	o.OnConnect = c.OnConnect
	settings(o, c.Timeout)
	return o, nil
}

// settings are the same for every client.
func settings(o *redis.UniversalOptions, timeout time.Duration) {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	conns := min(64, max(16, 10*runtime.GOMAXPROCS(0)))
	if o.IsClusterMode {
		conns *= 2 // for the nodes together
	}
	o.MaxRetries, o.ContextTimeoutEnabled = -1, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.DialerRetries, o.MaxConcurrentDials = 1, maxDials
	o.PoolSize, o.MaxActiveConns, o.MinIdleConns, o.PipelinePoolSize = conns, conns, 1, -1
	o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = time.Hour, 10*time.Minute
	o.MinRetryBackoff, o.MaxRetryBackoff = time.Millisecond, 8*time.Millisecond
	o.Protocol, o.DisableIdentity = 2, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// secured completes what an address says of TLS, nil if it asks for none, by
// ours, nil if there is nothing to add.
func secured(ofURL, ours *tls.Config) *tls.Config {
	if ofURL == nil {
		return nil
	}
	c := ofURL.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if ours != nil {
		c.RootCAs, c.GetClientCertificate = ours.RootCAs, ours.GetClientCertificate
	}
	return c
}
