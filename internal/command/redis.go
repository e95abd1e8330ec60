package command

import (
	"context"
	"errors"
	"time"

	"github.com/inference-router/inference-router/budget/redisledger"
	"github.com/inference-router/inference-router/internal/config"
	"github.com/inference-router/inference-router/internal/redisclient"

	"github.com/inference-router/inference-router/routing"
)

// openRedis has the replicas share their budgets and their latencies. A Redis
// that does not answer is no error: redis.on_loss applies until it does.
func (b *builder) openRedis(c *config.Config) error {
	secure, err := c.Redis.TLS()
	if err != nil {
		return err
	}
	where := redisclient.Config{
		URL: c.Redis.URL.Reveal(), Username: c.Redis.Username, Password: c.Redis.Password.Reveal(), TLS: secure,
	}
	ledger, err := redisledger.New(redisledger.Config{
		URL: where.URL, Username: where.Username, Password: where.Password, TLS: where.TLS,
		Prefix: c.Redis.Prefix,
		OnLoss: redisledger.OnLoss(c.Redis.OnLoss),
		Lease:  time.Duration(c.Redis.Lease),
		Logger: b.log,

		Timeout: time.Duration(c.Redis.Timeout),
	})
	if err != nil {
		return config.Problems{c.Problem("redis.url", "%v", err)}
	}
	b.ledger, b.storeUp, b.store = ledger, ledger.Up, ledger
	b.atEnd(func(ctx context.Context) error { return ledger.Close(ctx) })

	client, err := redisclient.New(where)
	if err != nil {
		return config.Problems{c.Problem("redis.url", "%v", err)}
	}
	shared, err := routing.NewShared(routing.SharedConfig{Client: client, Prefix: c.Redis.Prefix, Logger: b.log, State: b.state})
	if err != nil {
		return errors.Join(err, client.Close())
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		shared.Run(running)
	}()
	b.atEnd(func(context.Context) error {
		stop()
		<-done
		return client.Close()
	})
	return nil
}
