package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// prefix is that of the routers' keys in Redis.
const prefix = "chaos"

// stage is everything that takes part in a run.
type stage struct {
	plan      *plan
	dir       string
	upstreams *upstreams
	redis     *redisServer
	replicas  []*replica

	tally     *tally
	disturbed disturbances
	next      atomic.Int64 // the latest request's number
	killed    atomic.Int64
	broken    sync.Map // fault name -> *atomic.Int64, how often
	faults    atomic.Int64
	losses    atomic.Int64 // faults in which Redis lost writes
	began     time.Time
	lastEnded time.Time

	sparing   sync.RWMutex // locked while no replica may be killed
	forgetful atomic.Bool  // Redis has lost something that is not yet back
}

// raise starts everything.
func raise(p *plan, dir, binary string) (s *stage, err error) {
	s = &stage{plan: p, dir: dir, tally: newTally(), began: time.Now()}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.upstreams, err = startUpstreams(); err != nil {
		return s, err
	}
	if s.redis, err = startRedis(dir, p.fsync); err != nil {
		return s, err
	}
	for i := range p.replicas {
		r, err := newReplica(fmt.Sprintf("replica-%d", i+1), replicaConfig{
			binary: binary, dir: dir, redis: s.redis.address, upstream: s.upstreams.address, onLoss: p.onLoss, lease: p.lease,
		})
		if err != nil {
			return s, err
		}
		s.replicas = append(s.replicas, r)
	}
	return s, nil
}

func (s *stage) stop() {
	for _, r := range s.replicas {
		r.stop()
	}
	if s.redis != nil {
		s.redis.stop()
	}
	if s.upstreams != nil {
		s.upstreams.stop()
	}
}

// buildRouter compiles the router into dir, unless a binary was given.
func buildRouter(ctx context.Context, dir, given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	binary := filepath.Join(dir, "inference-router")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return binary, nil
}

// perform runs the plan: clients ask, and things break, until there were
// enough requests and all that should break has.
func (s *stage) perform(ctx context.Context) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	var workers sync.WaitGroup
	for range s.plan.workers {
		workers.Go(func() { s.work(working) })
	}
	var breaking sync.WaitGroup
	errs := make(chan error, 1)
	err := s.conduct(ctx, &breaking, errs)
	breaking.Wait()
	for err == nil && ctx.Err() == nil && s.tally.requests() < int64(s.plan.requests) {
		time.Sleep(2 * time.Millisecond)
	}
	stop()
	workers.Wait()
	s.lastEnded = time.Now()
	select {
	case other := <-errs:
		err = errors.Join(err, other)
	default:
	}
	return errors.Join(err, ctx.Err())
}

// conduct breaks things when it is their time, chapter after chapter.
func (s *stage) conduct(ctx context.Context, breaking *sync.WaitGroup, errs chan error) error {
	var one sync.Mutex // one fault of Redis at a time
	report := func(err error) {
		if err != nil {
			select {
			case errs <- err:
			default:
			}
		}
	}
	for chapter := 0; chapter == 0 || time.Since(s.began) < s.plan.duration; chapter++ {
		for _, e := range s.plan.events(chapter) {
			for s.tally.requests() < e.at {
				select {
				case err := <-errs:
					return err
				case <-ctx.Done():
					return nil
				case <-time.After(time.Millisecond):
				}
			}
			random := rand.New(rand.NewPCG(e.seed, 4))
			if e.fault == nil {
				if r := s.pickVictim(random); r != nil {
					breaking.Go(func() { report(s.killReplica(r, random)) })
				}
				continue
			}
			one.Lock()
			breaking.Go(func() {
				defer one.Unlock()
				report(s.breakRedis(e.fault, random))
			})
		}
		if s.plan.duration > 0 { // the rest of the chapter
			for s.tally.requests() < int64(chapter+1)*int64(s.plan.requests) && ctx.Err() == nil && time.Since(s.began) < s.plan.duration {
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	return nil
}

// pickVictim waits for a replica that can be spared: another must stay.
func (s *stage) pickVictim(random *rand.Rand) *replica {
	for range 10_000 {
		var up []*replica
		for _, r := range s.replicas {
			if r.up.Load() {
				up = append(up, r)
			}
		}
		if len(up) > 1 || len(s.replicas) == 1 && len(up) == 1 {
			r := up[random.IntN(len(up))]
			r.up.Store(false)
			return r
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (s *stage) killReplica(r *replica, random *rand.Rand) error {
	s.sparing.RLock()
	r.crash()
	s.sparing.RUnlock()
	s.killed.Add(1)
	time.Sleep(between(random, 20, 800))
	return r.revive()
}

func (s *stage) breakRedis(f *fault, random *rand.Rand) error {
	if s.plan.verbose {
		fmt.Fprintf(os.Stderr, "%8.3f s  %s\n", time.Since(s.began).Seconds(), f.name)
	}
	s.disturbed.begin()
	defer s.disturbed.end()
	if err := f.run(s, random); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	count, _ := s.broken.LoadOrStore(f.name, new(atomic.Int64))
	count.(*atomic.Int64).Add(1)
	s.faults.Add(1)
	if f.loses {
		s.losses.Add(1)
	}
	return nil
}
