package command

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"

	"github.com/inference-router/inference-router/internal/config"
)

//go:embed demo.yaml
var demoYAML []byte

// demoFaults is the share of simulated calls that fail, so that failover shows
// up within a few dozen requests.
const demoFaults = 0.04

func setupDemo(flags *flag.FlagSet) func(context.Context, console, []string) error {
	address := flags.String("listen", "127.0.0.1:8080", "the `address` to listen on, host:port or unix:/path")
	seed := flags.Uint64("seed", 0, "what latencies and failures are drawn from; 0 draws the seed")
	rate := flags.Uint64("traffic", 0, fmt.Sprintf("sample requests a `second` that the demo sends itself, at most %d; 0 sends none", mostTraffic))
	return func(ctx context.Context, c console, rest []string) error {
		if err := noWords(rest); err != nil {
			return err
		}
		if *rate > mostTraffic {
			return &usageError{fmt.Sprintf("-traffic %d: at most %d requests a second", *rate, mostTraffic)}
		}
		if *seed == 0 {
			*seed = rand.Uint64()
		}
		told, release := catchSignals()
		defer release()
		return demo(ctx, c, *address, *seed, *rate, told)
	}
}

// demo serves simulated models, from memory and to memory, and sends itself
// rate sample requests a second.
func demo(ctx context.Context, c console, address string, seed, rate uint64, told signals) error {
	noVariables := func(string) (string, bool) { return "", false }
	conf, err := config.Parse("demo.yaml", demoYAML, noVariables)
	if err != nil {
		return err
	}
	// Set afterwards, for nothing is at stake on an address that others reach.
	conf.Server.Listen = address
	conf.Log.Format, conf.Log.Level = "text", "warn"
	log := newLogging(conf.Log, c.err)
	defer log.close()
	b, err := newBuilder(conf, log.Logger)
	if err != nil {
		return err
	}
	defer b.finish()
	b.faults, b.seed = demoFaults, seed
	s, err := newService(b, conf)
	if err != nil {
		return err
	}
	if err := writeWelcome(c.out, s.front.open[0].Addr()); err != nil {
		return err
	}
	if rate > 0 {
		sending, end := context.WithCancel(ctx)
		var sender sync.WaitGroup
		sender.Go(func() { newTraffic(s.front.open[0].Addr(), rate, seed).run(sending) })
		defer sender.Wait()
		defer end()
	}
	return s.run(ctx, told.stop)
}

// writeWelcome says where the demo is and what to try.
func writeWelcome(out io.Writer, address net.Addr) error {
	root, curl := "http://"+address.String(), "curl"
	if address.Network() == "unix" {
		root, curl = "http://localhost", "curl --unix-socket "+address.String()
	}
	const text = `inference-router demo: three simulated tiers, budgets and a dashboard. Nothing leaves this machine.

  base URL     ROOT/v1
  dashboard    ROOT/dashboard
  reference    ROOT/docs

Try, and look at the X-Router-... headers:

  CURL -i ROOT/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model":"auto","messages":[{"role":"user","content":"compare B-trees vs LSM trees, explain tradeoffs"}]}'

Or with the OpenAI SDK:

  from openai import OpenAI
  client = OpenAI(base_url="ROOT/v1", api_key="none")
  answer = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "what is the capital of France?"}])
  print(answer.choices[0].message.content)

Ctrl-C ends it.
`
	_, err := fmt.Fprint(out, strings.NewReplacer("ROOT", root, "CURL", curl).Replace(text))
	return err
}
