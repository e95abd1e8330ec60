package redisclient

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"redis://localhost:6379/1":                                   "*redis.Client",
		"rediss://user:pw@localhost":                                 "*redis.Client",
		"unix:///run/redis.sock":                                     "*redis.Client",
		"redis://localhost:7000?addr=localhost:7001":                 "*redis.ClusterClient",
		"redis://localhost:7000?cluster=true":                        "*redis.ClusterClient",
		"redis://localhost:26379?master_name=m&addr=localhost:26380": "*redis.Client",
	} {
		client, err := New(Config{URL: address})
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if got := fmt.Sprintf("%T", client); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
		_ = client.Close()
	}
}

func TestNoPartOfABadAddressIsPrinted(t *testing.T) {
	for _, address := range []string{
		"", "http://:canary@localhost", "canary://localhost", "redis://:canary@local host", "redis://:ca@h?canary=1",
		"redis://:a@b/canary@127.0.0.1:6399/0", "redis://:a#canary@h:1", "redis://:a?canary@h:1", "redis://:a%zzcanary@h",
		"redis://:canary:x@h:y", "redis://h/canary", "redis://h?db=canary", "redis://h:canary", "unix:", "redis://h?canary_timeout=1",
	} {
		_, err := New(Config{URL: address})
		if err == nil {
			t.Errorf("%s: no error", address)
		} else if strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "redis.password") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	for _, c := range []struct {
		name       string
		config     Config
		user, pass string
		sentinels  string
	}{
		{"the URL's", Config{URL: "redis://u:p@h"}, "u", "p", ""},
		{"beside the URL", Config{URL: "redis://h", Username: "u", Password: "a/b@:#?"}, "u", "a/b@:#?", ""},
		{"the key's password, the URL's user", Config{URL: "redis://u@h", Password: "p"}, "u", "p", ""},
		{"a cluster's", Config{URL: "redis://h?cluster=true", Password: "p"}, "", "p", ""},
		{"a sentinel's before the host", Config{URL: "redis://:s@h?master_name=m&username=u&password=p"}, "u", "p", "s"},
		{"a sentinel's, with the servers' beside the URL", Config{URL: "redis://:s@h?master_name=m", Password: "p"}, "", "p", "s"},
	} {
		o, err := options(c.config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if o.Username != c.user || o.Password != c.pass || o.SentinelPassword != c.sentinels {
			t.Errorf("%s: %q, %q, sentinels' %q", c.name, o.Username, o.Password, o.SentinelPassword)
		}
	}
	o := &redis.UniversalOptions{IsClusterMode: true}
	settings(o, 0)
	if o.ReadTimeout != DefaultTimeout || o.MaxRetries != -1 {
		t.Errorf("settings: %+v", o)
	}
}
