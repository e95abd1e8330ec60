package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/rs/zerolog"
)

// redisServer is a redis-server with an append-only file, and a connection
// that the faults of the network do not touch.
type redisServer struct {
	process
	client *redis.Client
	data   string // directory
}

var errNoRedis = errors.New("redis-server is not installed")

func startRedis(dir, fsync string) (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	data, err := os.MkdirTemp(dir, "redis-")
	if err != nil {
		return nil, err
	}
	s := &redisServer{process: process{name: "redis", log: filepath.Join(dir, "redis.log")}, data: data}
	if s.address, err = freeAddress(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(s.address)
	s.command = []string{path, "--port", port, "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly", "yes",
		"--appendfsync", fsync, "--auto-aof-rewrite-percentage", "0", "--lua-time-limit", "100", "--loglevel", "warning"}
	redis.SetLogger(&logging.VoidLogger{}) // we break it ourselves
	s.client = redis.NewClient(&redis.Options{Addr: s.address, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1,
		ReadTimeout: time.Minute}) // the context's are shorter
	return s, s.launch()
}

// launch starts the server and waits until it has read its file.
func (s *redisServer) launch() error {
	if err := s.start(); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(2 * time.Millisecond) {
		if s.ping(time.Second) == nil {
			return nil
		}
	}
	return errors.New("redis does not answer after a minute")
}

// loseTail takes away the end of the append-only file. With appendfsync everysec
// Redis puts off writing while the disk is busy, for two seconds at most, but
// answers: when it is killed then, all of that is lost.
func (s *redisServer) loseTail(size int) error {
	files, err := filepath.Glob(filepath.Join(s.data, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("append-only files: %v, %w", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	// Whole transactions: it writes none in part.
	end := []byte("\r\n$4\r\nEXEC\r\n")
	at := bytes.LastIndex(text[:max(0, len(text)-size)], end)
	if at < 0 {
		return nil // nothing that could be lost
	}
	return os.Truncate(files[0], int64(at+len(end)))
}

func (s *redisServer) ping(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.client.Ping(ctx).Err()
}

// do runs one command.
func (s *redisServer) do(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.client.Do(ctx, args...).Result()
}

func (s *redisServer) stop() {
	_ = s.client.Close()
	s.kill()
}

// link is the network between a replica and Redis.
type link struct {
	*toxiproxy.Proxy
}

func newLink(name, redisAddress string) (link, error) {
	address, err := freeAddress()
	if err != nil {
		return link{}, err
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := link{toxiproxy.NewProxy(server, name, address, redisAddress)}
	if err := l.Start(); err != nil {
		return link{}, fmt.Errorf("link of %s: %w", name, err)
	}
	return l, nil
}
