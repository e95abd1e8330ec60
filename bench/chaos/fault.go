package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fault is something that goes wrong with Redis or on the way there, and is
// mended before it returns.
type fault struct {
	name string
	run  func(s *stage, random *rand.Rand) error
	// loses says that Redis loses what it has acknowledged. Such faults have to
	// be asked for.
	loses bool
}

// faults are used in turn, in an order that the seed decides.
var faults = []fault{
	{name: "redis killed and restarted", run: func(s *stage, random *rand.Rand) error {
		s.redis.kill()
		time.Sleep(between(random, 100, 1500))
		return s.redis.launch()
	}},
	{name: "redis frozen", run: func(s *stage, random *rand.Rand) error {
		s.redis.signal(syscall.SIGSTOP)
		time.Sleep(between(random, 200, 3000))
		s.redis.signal(syscall.SIGCONT)
		return s.redis.ping(10 * time.Second)
	}},
	{name: "scripts flushed, again and again", run: func(s *stage, _ *rand.Rand) error {
		for range 10 {
			if _, err := s.redis.do("SCRIPT", "FLUSH"); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}},
	{name: "replies lost, all replicas", run: func(s *stage, random *rand.Rand) error {
		return poison(s.replicas, between(random, 100, 1500), `"type":"timeout","stream":"downstream","attributes":{"timeout":0}`)
	}},
	{name: "replies lost, some replicas", run: func(s *stage, random *rand.Rand) error {
		return poison(some(s, random), between(random, 200, 2000), `"type":"timeout","stream":"downstream","attributes":{"timeout":20}`)
	}},
	{name: "partition of some replicas", run: func(s *stage, random *rand.Rand) error {
		return poison(some(s, random), between(random, 200, 2500), `"type":"timeout","stream":"upstream","attributes":{"timeout":0}`)
	}},
	{name: "connections refused, some replicas", run: func(s *stage, random *rand.Rand) error {
		parted := some(s, random)
		for _, r := range parted {
			r.link.Stop()
		}
		time.Sleep(between(random, 200, 2500))
		var all error
		for _, r := range parted {
			all = errors.Join(all, r.link.Start())
		}
		return all
	}},
	{name: "connections reset, all replicas", run: func(s *stage, random *rand.Rand) error {
		return poison(s.replicas, between(random, 100, 1000), `"type":"reset_peer","stream":"downstream","attributes":{"timeout":0}`)
	}},
	{name: "every connection killed by redis", run: func(s *stage, _ *rand.Rand) error {
		for range 5 {
			if _, err := s.redis.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}},
	{name: "latency of 30 ms", run: func(s *stage, random *rand.Rand) error {
		return poison(s.replicas, between(random, 500, 1500), `"type":"latency","stream":"downstream","attributes":{"latency":30,"jitter":10}`)
	}},
	{name: "latency of 100 ms", run: func(s *stage, random *rand.Rand) error {
		return poison(s.replicas, between(random, 500, 1500), `"type":"latency","stream":"downstream","attributes":{"latency":100}`)
	}},
	{name: "replies in slices", run: func(s *stage, random *rand.Rand) error {
		return poison(s.replicas, between(random, 500, 1500), `"type":"slicer","stream":"downstream","attributes":{"average_size":20,"size_variation":15,"delay":100}`)
	}},
	{name: "redis out of memory", run: func(s *stage, random *rand.Rand) error {
		if _, err := s.redis.do("CONFIG", "SET", "maxmemory", "1"); err != nil {
			return err
		}
		time.Sleep(between(random, 100, 1000))
		_, err := s.redis.do("CONFIG", "SET", "maxmemory", "0")
		return err
	}},
	{name: "redis busy with a script", run: func(s *stage, random *rand.Rand) error {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = s.redis.do("EVAL", "while true do end", "0") // is killed below
		}()
		time.Sleep(between(random, 300, 1000))
		_, err := s.redis.do("SCRIPT", "KILL")
		<-ended
		return err
	}},
	{name: "redis killed, its last writes lost", run: func(s *stage, random *rand.Rand) error {
		// What only a replica and Redis knew is lost if both die.
		s.sparing.Lock()
		defer s.sparing.Unlock()
		time.Sleep(time.Second)
		s.forgetful.Store(true)
		defer s.forgetful.Store(false)
		s.redis.kill()
		if err := s.redis.loseTail(1 + random.IntN(256<<10)); err != nil {
			return err
		}
		time.Sleep(between(random, 100, 1500))
		if err := s.redis.launch(); err != nil {
			return err
		}
		time.Sleep(2500 * time.Millisecond) // longer than replicas take to bring back what they know
		return nil
	}, loses: true},
}

// between is a time between so many milliseconds.
func between(random *rand.Rand, from, to int) time.Duration {
	return time.Duration(from+random.IntN(to-from)) * time.Millisecond
}

// some is at least one replica, and at most half of them.
func some(s *stage, random *rand.Rand) []*replica {
	n := 1 + random.IntN(max(1, len(s.replicas)/2))
	var parted []*replica
	for _, i := range random.Perm(len(s.replicas))[:n] {
		parted = append(parted, s.replicas[i])
	}
	return parted
}

// poison disturbs the links of replicas for a time.
func poison(replicas []*replica, d time.Duration, toxic string) error {
	for _, r := range replicas {
		if _, err := r.link.Toxics.AddToxicJson(strings.NewReader(`{"name":"x","toxicity":1,` + toxic + `}`)); err != nil {
			return fmt.Errorf("toxic for %s: %w", r.name, err)
		}
	}
	time.Sleep(d)
	// Taking a toxic away waits for the connections it is on, one by one.
	var healing sync.WaitGroup
	errs := make([]error, len(replicas))
	for i, r := range replicas {
		healing.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			errs[i] = r.link.Toxics.RemoveToxic(ctx, "x")
		})
	}
	healing.Wait()
	return errors.Join(errs...)
}
