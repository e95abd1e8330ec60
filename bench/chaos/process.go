package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a program that can be killed and started again.
type process struct {
	name    string
	address string // where it listens
	log     string // file
	command []string

	mu   sync.Mutex // guards what follows
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// start starts the program and waits until something listens.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // we end it ourselves, by a signal
		close(done)
	}()
	p.cmd, p.done = cmd, done
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		if conn, err := net.Dial("tcp", p.address); err == nil {
			return conn.Close()
		}
		select {
		case <-done:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s has ended:\n%s", p.name, text[max(0, len(text)-2000):])
		case <-time.After(2 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen after 20 s", p.name)
}

func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s) // it may have ended
	}
}

// kill ends the process as a crash does, and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.wait()
}

// terminate ends the process in good order.
func (p *process) terminate() {
	p.signal(syscall.SIGTERM)
	p.wait()
}

func (p *process) wait() {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done != nil {
		<-done
	}
}

// nextPort counts through ports below those that the system hands out by
// itself, so that nothing takes one while its process is down.
var nextPort atomic.Int64

func init() { nextPort.Store(int64(os.Getpid()) * 41 % 10000) }

func freePort() (int, error) {
	for range 10000 {
		port := 20000 + int(nextPort.Add(1))%10000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("no free port")
}

func freeAddress() (string, error) {
	port, err := freePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}
