package command

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/inference-router/inference-router/internal/config"
)

// certificates are what TLS listeners show and ask for. A reload replaces them
// for connections that begin from then on. The zero value serves without TLS.
type certificates struct {
	current atomic.Pointer[tls.Config]
}

// load reads the files that the configuration names.
func (c *certificates) load(conf *config.Config) error {
	made, err := tlsConfig(conf)
	if err == nil {
		c.current.Store(made)
	}
	return err
}

// tlsConfig makes the TLS configuration, nil when there is none.
func tlsConfig(conf *config.Config) (*tls.Config, error) {
	files := conf.Server.TLS
	if files.CertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return nil, config.Problems{conf.Problem("server.tls.cert_file", "certificate and key cannot be used: %v", err)}
	}
	made := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if files.ClientCAFile == "" {
		return made, nil
	}
	pem, err := os.ReadFile(files.ClientCAFile)
	made.ClientCAs = x509.NewCertPool()
	if err == nil && !made.ClientCAs.AppendCertsFromPEM(pem) {
		err = errors.New("it holds no certificate in PEM")
	}
	if err != nil {
		return nil, config.Problems{conf.Problem("server.tls.client_ca_file", "cannot be used: %v", err)}
	}
	made.ClientAuth = tls.RequireAndVerifyClientCert
	return made, nil
}

// server is the configuration of a listener: it asks for the current one with
// each connection.
func (c *certificates) server() *tls.Config {
	current := c.current.Load()
	if current == nil {
		return nil
	}
	outer := current.Clone()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if now := c.current.Load(); now != nil {
			return now, nil
		}
		return nil, fmt.Errorf("no certificate is configured")
	}
	return outer
}
