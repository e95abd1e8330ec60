package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS is what redis.ca_file, cert_file and key_file come to; nil without them.
// The router's certificate is read anew for each connection, so that it may be
// renewed.
func (r *Redis) TLS() (*tls.Config, error) {
	return tlsFiles("redis.", r.CAFile, r.CertFile, r.KeyFile)
}

// TLS is what the upstream's ca_file, cert_file and key_file come to; nil
// without them.
func (u *Upstream) TLS() (*tls.Config, error) {
	return tlsFiles(u.Path+".", u.CAFile, u.CertFile, u.KeyFile)
}

// tlsFiles trusts ca's authorities and shows cert. Errors begin with the key
// and a colon; prefix comes before its last part.
func tlsFiles(prefix, ca, cert, key string) (*tls.Config, error) {
	if ca == "" && cert == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("%sca_file: %w", prefix, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%sca_file: %s has no certificate in PEM", prefix, ca)
		}
	}
	if cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			return &pair, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("%scert_file: %w", prefix, err)
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}
