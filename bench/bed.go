package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bareName and directName are columns of the table.
const (
	bareName   = "bare"
	directName = "no proxy"
)

// bed is the test bed: the processes of a run.
type bed struct {
	ctx     context.Context
	dir     string // binaries, configurations, logs
	proxies []*proxy
	running []*process
}

// proxy is something to send load to.
type proxy struct {
	name    string
	address string
	router  bool
	redis   bool     // its budgets are in Redis
	process *process // nil for the upstream itself
}

// start starts the upstream and all proxies, and waits until they answer.
func (b *bed) start(s settings) error {
	_, upstream, err := b.listen(others, "upstream")
	if err != nil {
		return err
	}
	bare, address, err := b.listen(proxied, "bare", "-upstream", "http://"+upstream)
	if err != nil {
		return err
	}
	b.proxies = []*proxy{{name: directName, address: upstream}, {name: bareName, address: address, process: bare}}
	redis := ""
	if s.redis {
		if redis, err = b.startRedis(); err != nil {
			return err
		}
	}
	for _, r := range s.routers {
		if err := b.startRouter(r.name, r.binary, upstream, ""); err != nil {
			return err
		}
		if redis != "" {
			if err := b.startRouter(r.name+"+redis", r.binary, upstream, redis); err != nil {
				return err
			}
		}
	}
	return nil
}

// listen starts one of our own programs, which prints its address.
func (b *bed) listen(core core, program string, args ...string) (*process, string, error) {
	cmd := b.command(core, program, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	p, err := b.run(cmd)
	if err != nil {
		return nil, "", err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("%s printed no address: %w", program, err)
	}
	return p, strings.TrimSpace(address), nil
}

// startRouter starts the router as a user would run it, with its log in a
// file, and waits until it is ready.
func (b *bed) startRouter(name, binary, upstream, redis string) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	config := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(config, configuration(address, upstream, redis), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	binary, err = filepath.Abs(binary)
	if err != nil {
		return err
	}
	cmd := b.command(proxied, binary, "serve", "-config", config)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := b.run(cmd)
	if err != nil {
		return err
	}
	if err := b.ready(p, address); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s is not ready: %w\n%s", name, err, tail(text, 2000))
	}
	b.proxies = append(b.proxies, &proxy{name: name, address: address, router: true, redis: redis != "", process: p})
	return nil
}

// startRedis starts a Redis that keeps nothing and returns its URL.
func (b *bed) startRedis() (string, error) {
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", err
	}
	p, err := b.run(b.command(others, program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", b.dir))
	if err != nil {
		return "", err
	}
	return "redis://" + address, b.ready(p, address)
}

// ready waits until something listens at address.
func (b *bed) ready(p *process, address string) error {
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-p.done:
			return errors.New("it has ended")
		case <-time.After(20 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
	}
	return errors.New("nothing listens after 10 s")
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// core is where a process may run when there are at least two.
type core string

const (
	others  core = "0"
	proxied core = "1"
)

var canPin = sync.OnceValue(func() bool {
	_, err := exec.LookPath("taskset")
	return err == nil && runtime.NumCPU() >= 2
})

// command is a program, one of ours unless it is given with its path, on a core.
func (b *bed) command(core core, program string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(program) {
		program = filepath.Join(b.dir, program)
	}
	if canPin() {
		program, args = "taskset", append([]string{"-c", string(core), program}, args...)
	}
	cmd := exec.CommandContext(b.ctx, program, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// process is a running program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func (b *bed) run(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // we end it ourselves, by a signal
		close(p.done)
	}()
	b.running = append(b.running, p)
	return p, nil
}

// stop ends all processes, the latest first.
func (b *bed) stop() {
	for i := len(b.running) - 1; i >= 0; i-- {
		p := b.running[i]
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.done:
		case <-time.After(3 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
}

// cpu is the CPU time the process has used so far, user and system, of all its
// threads; 0 for none.
func (p *process) cpu() (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	// The clock of another process, as clock_getcpuclockid(3) makes it: the
	// sum that /proc/PID/stat shows in hundredths of a second, unrounded.
	const schedulerClock = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|schedulerClock), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d, has it ended? %w", p.cmd.Process.Pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// rss is the process's resident memory in megabytes; 0 for none.
func (p *process) rss() float64 {
	if p == nil {
		return 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	kilobytes, _, _ := bytes.Cut(rest, []byte("kB"))
	n, err := strconv.ParseFloat(string(bytes.TrimSpace(kilobytes)), 64)
	if err != nil {
		return 0
	}
	return n / 1024
}

// watchRSS looks at rss until the function it returns is called, which gives
// the largest.
func (p *process) watchRSS() (most func() float64) {
	stop, largest := make(chan struct{}), make(chan float64)
	go func() {
		most := p.rss()
		for {
			select {
			case <-stop:
				largest <- max(most, p.rss())
				return
			case <-time.After(100 * time.Millisecond):
				most = max(most, p.rss())
			}
		}
	}()
	return func() float64 {
		close(stop)
		return <-largest
	}
}

func tail(text []byte, n int) []byte {
	return text[max(0, len(text)-n):]
}
