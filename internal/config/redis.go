package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/inference-router/inference-router/budget"
)

// TLS is what redis.ca_file, cert_file and key_file come to; nil without them.
// The router's certificate is read anew for each connection, so that it may be
// renewed.
func (r *Redis) TLS() (*tls.Config, error) {
	if r.CAFile == "" && r.CertFile == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.CAFile != "" {
		text, err := os.ReadFile(r.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("redis.ca_file: %s has no certificate in PEM", r.CAFile)
		}
	}
	if r.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(r.CertFile, r.KeyFile)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("redis.cert_file: %w", err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// RedisClient makes the client that latencies are shared through. It
// understands the same addresses as the ledger: redis://, rediss:// and
// unix://, with ?addr= or ?cluster=true for a cluster and ?master_name= for
// sentinels. Errors do not repeat the address, which may hold a password.
func RedisClient(address string, secure *tls.Config) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("not a Redis address such as redis://localhost:6379/0")
	}
	query := u.Query()
	clustered := query.Get("cluster") == "true"
	query.Del("cluster")
	u.RawQuery = query.Encode()
	client, err := openClient(u.String(), secure, query.Has("master_name"), clustered || query.Has("addr"))
	var parse *url.Error
	if errors.As(err, &parse) {
		err = parse.Err
	}
	if err != nil {
		return nil, fmt.Errorf("not a Redis address: %w", err)
	}
	return client, nil
}

// openClient does not connect. What is sent has ids of its own and is repeated
// by the sender, so the client repeats nothing.
func openClient(address string, secure *tls.Config, sentinel, clustered bool) (redis.UniversalClient, error) {
	switch {
	case sentinel:
		o, err := redis.ParseFailoverURL(address)
		if err != nil {
			return nil, err
		}
		o.MaxRetries, o.ContextTimeoutEnabled = -1, true
		o.TLSConfig = budget.RedisTLS(o.TLSConfig, secure)
		return redis.NewFailoverClient(o), nil
	case clustered:
		o, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, err
		}
		o.ContextTimeoutEnabled = true
		o.TLSConfig = budget.RedisTLS(o.TLSConfig, secure)
		return redis.NewClusterClient(o), nil
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, err
	}
	o.MaxRetries, o.ContextTimeoutEnabled = -1, true
	o.TLSConfig = budget.RedisTLS(o.TLSConfig, secure)
	return redis.NewClient(o), nil
}
