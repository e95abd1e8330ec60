package command

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/inference-router/inference-router/internal/config"
)

// healthTime is how long a health check waits for the answer.
const healthTime = 5 * time.Second

func setupHealthcheck(flags *flag.FlagSet) func(context.Context, console, []string) error {
	file := configFlag(flags)
	return func(ctx context.Context, _ console, rest []string) error {
		if err := noWords(rest); err != nil {
			return err
		}
		conf, err := loadFromFiles(*file, new(config.Dotenv))
		if err != nil {
			return err
		}
		return checkHealth(ctx, conf)
	}
}

// checkHealth asks the configured listener for /livez.
func checkHealth(ctx context.Context, c *config.Config) error {
	network, address := "tcp", c.Server.Listen
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	} else if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("localhost", port)
		}
	}
	client := &http.Client{Timeout: healthTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		// It is this machine's own listener, by whatever name its certificate is.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	scheme := "http"
	if c.Server.TLS.CertFile != "" && network == "tcp" {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://localhost/livez", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", c.Server.Listen, err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers /livez with %s", c.Server.Listen, answer.Status)
	}
	return nil
}
