package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// freePorts finds a port that is free together with the n after it, below
// those that the system gives to other tests meanwhile.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for range 50 {
		base := 20_000 + rand.IntN(10_000)
		var open []net.Listener
		for i := range n + 1 {
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+i)); err == nil {
				open = append(open, l)
			}
		}
		for _, l := range open {
			l.Close()
		}
		if len(open) == n+1 {
			return base
		}
	}
	t.Fatalf("found no %d free ports in a row", n+1)
	return 0
}

// needs skips the test where a program is missing, or fails it where all have
// to be there.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}

// start runs local.sh and waits until its balancer has a replica that is ready.
func start(t *testing.T, balancer string) (url string) {
	t.Helper()
	needs(t, "redis-server")
	needs(t, "curl")
	port := freePorts(t, 3)
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	script := exec.Command("./local.sh")
	script.Env = append(os.Environ(), "PORT="+strconv.Itoa(port), "BALANCER="+balancer)
	output, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	script.Stdout, script.Stderr = output, output
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	t.Cleanup(func() { stop(t, script, ended, url) })

	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-ended:
			text, _ := os.ReadFile(output.Name())
			ended <- nil // told here
			t.Fatalf("local.sh ended: %v\n%s", err, text)
		default:
		}
		if text, _ := os.ReadFile(output.Name()); strings.Contains(string(text), "ready: ") {
			return url
		}
		if time.Now().After(deadline) {
			t.Fatal("local.sh is not ready after 3 minutes")
		}
	}
}

// stop ends local.sh and checks that nothing of it runs on.
func stop(t *testing.T, script *exec.Cmd, ended chan error, url string) {
	if err := script.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("local.sh ended with %v, want exit code 0 on SIGTERM", err)
		}
	case <-time.After(time.Minute):
		t.Error("local.sh runs on a minute after SIGTERM")
		script.Process.Kill()
	}
	if res, err := http.Get(url + "/readyz"); err == nil {
		res.Body.Close()
		t.Error("the balancer runs on after local.sh has ended")
	}
}

// answer is what one request got.
type answer struct {
	status   int
	replica  string
	nanos    int64 // charged, in nano-dollars
	response string
}

func ask(ctx context.Context, url, user, budget string) (a answer, err error) {
	const body = `{"model":"powerful","max_tokens":40,"messages":[{"role":"user","content":"compare B-trees vs LSM trees"}]}`
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Router-User", user)
	req.Header.Set("X-Router-Budget-USD", budget)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	a = answer{status: res.StatusCode, replica: res.Header.Get("X-Served-By"), response: string(text)}
	if err == nil && res.StatusCode == http.StatusOK {
		a.nanos, err = nanos(res.Header.Get("X-Router-Cost-USD"))
	}
	return a, err
}

// askUntilStored asks again, as it is told to, while Redis is too slow to
// answer: that may be on a busy machine.
func askUntilStored(ctx context.Context, url, user, budget string) (answer, error) {
	for range 10 {
		a, err := ask(ctx, url, user, budget)
		if err != nil || !strings.Contains(a.response, "budget_store_unavailable") {
			return a, err
		}
		select {
		case <-time.After(time.Second): // Retry-After
		case <-ctx.Done():
		}
	}
	return answer{}, errors.New("the budget store is away for ten seconds")
}

// nanos reads a decimal number of dollars exactly.
func nanos(usd string) (int64, error) {
	whole, fraction, _ := strings.Cut(usd, ".")
	return strconv.ParseInt(whole+(fraction + "000000000")[:9], 10, 64)
}

// spent is what /budgets says of the user, and whether it could be asked.
func spent(t *testing.T, url, user string) (int64, bool) {
	t.Helper()
	res, err := http.Get(url + "/budgets?user=" + user)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusServiceUnavailable {
		return 0, false // Redis is slow
	}
	var page struct {
		Budgets []struct {
			User  string      `json:"user"`
			Spent json.Number `json:"spent_usd"`
		} `json:"budgets"`
	}
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET /budgets: status %d, %v", res.StatusCode, err)
	}
	for _, b := range page.Budgets {
		if b.User == user {
			n, err := nanos(b.Spent.String())
			if err != nil {
				t.Fatal(err)
			}
			return n, true
		}
	}
	t.Fatalf("GET /budgets says nothing about %s", user)
	return 0, false
}

// waitForSpent waits until the budget says what the answers cost: settlements
// that Redis was too slow for come later.
func waitForSpent(t *testing.T, url, user string, want int64) {
	t.Helper()
	var got int64
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var ok bool
		if got, ok = spent(t, url, user); ok && got == want {
			return
		}
	}
	t.Errorf("the budget says %d nano-dollars are spent, the answers cost %d", got, want)
}

func TestReplicasHoldAUserToOneBudget(t *testing.T) {
	const budget, limit = "0.01", 10_000_000 // dollars, and the same in nano-dollars
	for _, balancer := range []string{"go", "haproxy"} {
		t.Run("behind "+balancer, func(t *testing.T) {
			needs(t, balancer)
			url := start(t, balancer)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()

			answers := make(chan answer, 64)
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					for range 8 {
						a, err := askUntilStored(ctx, url, "alice", budget)
						if err != nil {
							t.Error(err)
							return
						}
						answers <- a
					}
				})
			}
			clients.Wait()
			close(answers)

			var sum int64
			admitted, refused := map[string]int{}, 0 // by replica
			for a := range answers {
				switch {
				case a.status == http.StatusOK:
					sum += a.nanos
					admitted[a.replica]++
				case a.status == http.StatusTooManyRequests && strings.Contains(a.response, "budget_exceeded"):
					refused++
				default:
					t.Errorf("status %d: %s", a.status, a.response)
				}
			}
			if len(admitted) < 2 || refused == 0 {
				t.Errorf("admitted by replica: %v, refused: %d; want answers from several replicas, and then refusals", admitted, refused)
			}
			if sum > limit {
				t.Errorf("alice was charged %d nano-dollars, her budget is %d", sum, limit)
			}
			waitForSpent(t, url, "alice", sum)
		})
	}
}
