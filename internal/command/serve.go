package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/inference-router/inference-router/internal/config"

	"github.com/inference-router/inference-router/proxy"
)

// signals are what the process is told from outside.
type signals struct {
	stop   <-chan os.Signal // the first drains, the second ends
	hangup <-chan os.Signal // reload
}

// catchSignals takes over the signals; release gives them back.
func catchSignals() (s signals, release func()) {
	stop, hangup := make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(hangup, syscall.SIGHUP)
	return signals{stop, hangup}, func() { signal.Stop(stop); signal.Stop(hangup) }
}

func setupServe(flags *flag.FlagSet) func(context.Context, console, []string) error {
	file := configFlag(flags)
	return func(ctx context.Context, c console, rest []string) error {
		if err := noWords(rest); err != nil {
			return err
		}
		told, release := catchSignals()
		defer release()
		return serve(ctx, c, *file, told)
	}
}

// serve runs the proxy until it is told to stop.
func serve(ctx context.Context, c console, file string, told signals) error {
	env := new(config.Dotenv)
	first, _ := os.ReadFile(file) // before it is loaded: a change meanwhile is one to reload
	conf, err := loadFromFiles(file, env)
	if err != nil {
		return err
	}
	log := newLogging(conf.Log, c.err)
	defer log.close()
	b, err := newBuilder(conf, log.Logger)
	if err != nil {
		return err
	}
	defer b.finish()
	decisions, err := openDecisions(conf)
	if err != nil {
		return err
	}
	b.decisions.swap(decisions)
	s, err := newService(b, conf)
	if err != nil {
		return err
	}
	current := conf
	reload := &reloader{file: file, hangup: told.hangup, log: log.Logger, apply: func() error {
		next, err := loadFromFiles(file, env)
		if err != nil {
			return err
		}
		file, err := openDecisions(next)
		if err != nil {
			return err
		}
		if err := s.reload(next); err != nil {
			return errors.Join(err, closeLines(file))
		}
		b.decisions.swap(file)
		if names := needsRestart(current, next); names != "" {
			log.Warn("changed, but only a restart applies it", "keys", names)
		}
		current = next
		log.setLevel(next.Log.Level)
		return nil
	}}
	reload.last = first
	var watching sync.WaitGroup
	watch, stopWatching := context.WithCancel(ctx)
	watching.Go(func() { reload.run(watch) })
	defer watching.Wait()
	defer stopWatching()
	return s.run(ctx, told.stop)
}

// service is a built proxy with its listeners.
type service struct {
	*builder
	proxy *proxy.Server
	front *front
	conf  atomic.Pointer[config.Config]
	parts proxy.Config // what proxy was built from; of reload alone
}

// newService builds the proxy and opens its listeners.
func newService(b *builder, c *config.Config) (*service, error) {
	parts, err := b.build(c)
	if err != nil {
		return nil, err
	}
	s := &service{builder: b, front: newFront(b.log, c.Server.MaxConnections), parts: parts}
	if err := s.front.certs.load(c); err != nil {
		return nil, err
	}
	if s.proxy, err = proxy.New(parts); err != nil {
		return nil, err
	}
	s.conf.Store(c)
	s.warn(c)
	address, err := s.front.add(c.Server.Listen, s.proxy.Handler())
	if err != nil {
		return nil, c.Where("server.listen", err)
	}
	b.log.Info("listening", "address", address.String(), "identity", c.Identity.Mode, "tls", c.Server.TLS.CertFile != "", "max_connections", s.front.all.limit)
	if c.Log.Users == "hash" && c.Log.UsersKey == "" {
		b.log.Info("users' names are hashed with a key made for this start; log.users_key keeps hashes the same after a restart")
	}
	if c.Server.AdminListen != "" {
		if address, err = s.front.add(c.Server.AdminListen, s.proxy.AdminHandler()); err != nil {
			s.front.close()
			return nil, c.Where("server.admin_listen", err)
		}
		b.log.Info("listening for admin routes", "address", address.String())
	}
	return s, nil
}

// reload puts another configuration in force for new requests.
func (s *service) reload(c *config.Config) error {
	before := s.conf.Load()
	fixed := *c
	// The listeners stay, and with them what may be believed of them.
	fixed.Server.Listen, fixed.Server.AdminListen = before.Server.Listen, before.Server.AdminListen
	if problems := fixed.Check(os.LookupEnv); len(problems) > 0 {
		return problems
	}
	parts, err := s.build(&fixed)
	if err != nil {
		return err
	}
	if err := s.front.certs.load(&fixed); err != nil {
		return err
	}
	if err := s.proxy.Reload(parts); err != nil {
		return err
	}
	s.conf.Store(&fixed)
	closeIdle(s.parts)
	s.parts = parts
	s.warn(&fixed)
	return nil
}

// closeIdle lets go of the connections that clients no longer in use have
// kept. Requests that run on with them are not disturbed.
func closeIdle(parts proxy.Config) {
	for _, t := range parts.Tiers {
		for _, d := range t.Deployments {
			if client, ok := d.Upstream.(interface{ Close() }); ok {
				client.Close()
			}
		}
	}
}

// warn logs what is no error but ought to be known.
func (s *service) warn(c *config.Config) {
	tell := func(what string, all config.Problems) {
		for _, p := range all {
			s.log.Warn(what, "at", fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column), "key", p.Key, "why", p.Message)
		}
	}
	tell("price is a guess", c.Guesses())
	tell("configured without effect", c.Idle())
	tell("open to strangers", c.Exposed())
}

// errSecondSignal is the end of a process that was told twice.
var errSecondSignal = errors.New("ended by a second signal; running requests were cut off")

// run serves until ctx ends or a signal comes. Then /readyz fails at once,
// requests are still taken for drain_delay, and running ones have
// drain_timeout; what is left of them ends with an error event.
func (s *service) run(ctx context.Context, stop <-chan os.Signal) error {
	served := make(chan error, 1)
	go func() { served <- s.front.serve() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case <-stop:
	}
	c := s.conf.Load().Server
	s.log.Info("draining", "delay", time.Duration(c.DrainDelay).String(), "timeout", time.Duration(c.DrainTimeout).String())
	s.proxy.Drain()
	s.front.leave()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(time.Duration(c.DrainDelay), time.Duration(c.DrainTimeout))
	}()
	select {
	case <-drained:
		s.log.Info("stopped")
		return nil
	case <-stop:
		s.front.close()
		<-drained
		return errSecondSignal
	}
}

func (s *service) drain(delay, timeout time.Duration) {
	wait := time.NewTimer(delay)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.front.base.Done():
	}
	ctx, cancel := context.WithTimeout(s.front.base, timeout)
	defer cancel()
	s.front.shutdown(ctx, proxy.ErrShutdown)
}

// finish closes the builder and logs what could not be sent or written.
func (b *builder) finish() {
	if err := b.close(); err != nil {
		b.log.Error("closing", "error", err)
	}
}

// logging is the process' log, written by a goroutine of its own so that a
// stopped reader holds no request up.
type logging struct {
	*slog.Logger
	level slog.LevelVar
	queue *proxy.AsyncWriter
}

// logQueue is how many lines may wait.
const logQueue = 4096

func newLogging(c config.Log, out io.Writer) *logging {
	l := &logging{queue: proxy.NewAsyncWriter(out, logQueue)}
	l.setLevel(c.Level)
	options := &slog.HandlerOptions{Level: &l.level}
	if c.Format == "text" {
		l.Logger = slog.New(slog.NewTextHandler(l.queue, options))
	} else {
		l.Logger = slog.New(slog.NewJSONHandler(l.queue, options))
	}
	return l
}

func (l *logging) setLevel(name string) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err == nil { // checked with the configuration
		l.level.Set(level)
	}
}

func (l *logging) close() { _ = closeInTime(l.queue) }

// lastLines is how long a log's last lines may take to write: a reader that has
// stopped must not keep the process from ending.
const lastLines = 2 * time.Second

// closeInTime ends a queue of lines, or leaves it when nobody takes them.
func closeInTime(queue *proxy.AsyncWriter) error {
	written := make(chan error, 1)
	go func() { written <- queue.Close() }()
	select {
	case err := <-written:
		return err
	case <-time.After(lastLines):
		return errors.New("the last lines of a log could not be written in time")
	}
}

// decisionLog is the file of decisions. It is written by a goroutine of its
// own, and can be opened anew meanwhile, for log rotation.
type decisionLog struct {
	queue *proxy.AsyncWriter

	mu   sync.Mutex
	file *os.File // nil drops what is written
}

func newDecisionLog() *decisionLog {
	d := new(decisionLog)
	d.queue = proxy.NewAsyncWriter(d, logQueue)
	return d
}

// openLines opens the file to add lines to it, nil for the name "".
func openLines(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
}

// openDecisions is openLines for the decision log.
func openDecisions(c *config.Config) (*os.File, error) {
	file, err := openLines(c.Log.Decisions)
	var failed *fs.PathError
	if errors.As(err, &failed) {
		return nil, config.Problems{c.Problem("log.decisions", "cannot be opened for writing: %v", failed.Err)}
	}
	return file, err
}

func closeLines(file *os.File) error {
	if file == nil {
		return nil
	}
	return file.Close()
}

// swap goes on with another file, nil for none, and closes the one before.
func (d *decisionLog) swap(file *os.File) {
	d.mu.Lock()
	before := d.file
	d.file = file
	d.mu.Unlock()
	_ = closeLines(before)
}

// Write writes one line to the file; the queue calls it.
func (d *decisionLog) Write(line []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file == nil {
		return len(line), nil
	}
	return d.file.Write(line)
}

// close writes what is queued and ends the goroutine.
func (d *decisionLog) close() error {
	if err := closeInTime(d.queue); err != nil {
		return err
	}
	d.swap(nil)
	return nil
}
