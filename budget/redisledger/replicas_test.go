package redisledger

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/budget/ledgertest"

	"github.com/anishathalye/porcupine"
)

// Replicas that are processes of their own: this test binary, started again.

// replicaTask is what a process is to do, and where it writes what it did.
type replicaTask struct {
	URL, Prefix, Out string
	Lease            time.Duration
	Workers, Rounds  int
	Users            []string
	Limit            budget.Nanodollars
}

// event is one call as its caller saw it, a line of JSON.
type event struct {
	User         string
	Settle       bool
	Amount       budget.Nanodollars // reserved
	Actual       budget.Nanodollars // charged, of a settle
	Admitted     bool
	Called, Done int64 // ns since 1970: all processes share the machine's clock
}

const replicaTaskVariable = "BUDGET_TEST_REPLICA"

// TestReplicaProcess is no test: it is what the processes do.
func TestReplicaProcess(t *testing.T) {
	text := os.Getenv(replicaTaskVariable)
	if text == "" {
		t.Skip("started by other tests")
	}
	var task replicaTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(task.Out)
	if err != nil {
		t.Fatal(err)
	}
	r := newReplica(t, Config{URL: task.URL, Prefix: task.Prefix, OnLoss: OnLossClosed, Lease: task.Lease, Timeout: patient})
	var mu sync.Mutex
	record := func(e event) {
		line, _ := json.Marshal(e)
		mu.Lock()
		defer mu.Unlock()
		_, _ = out.Write(append(line, '\n')) // unbuffered: it stays when we are killed
	}
	var wg sync.WaitGroup
	for range task.Workers {
		wg.Go(func() {
			for range task.Rounds {
				task.round(t, r, record)
			}
		})
	}
	wg.Wait()
}

// round is one request: reserve, work, settle.
func (task *replicaTask) round(t *testing.T, r *Ledger, record func(event)) {
	e := event{User: task.Users[rand.IntN(len(task.Users))], Amount: 1 + rand.N[budget.Nanodollars](20), Called: time.Now().UnixNano()}
	held, err := r.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: e.Amount, Limits: []budget.Limit{userDay(e.User, task.Limit)}})
	e.Done, e.Admitted = time.Now().UnixNano(), err == nil
	var exceeded *budget.ExceededError
	if err != nil && !errors.As(err, &exceeded) {
		t.Errorf("Reserve: %v", err)
		return
	}
	record(e)
	if err != nil {
		return
	}
	time.Sleep(rand.N(2 * time.Millisecond)) // the request
	s := event{User: e.User, Settle: true, Amount: e.Amount, Actual: rand.N(e.Amount + 1), Called: time.Now().UnixNano()}
	if err := errors.Join(held.Settle(t.Context(), s.Actual), r.queue.flush(t.Context())); err != nil {
		t.Errorf("Settle: %v", err)
	}
	s.Done = time.Now().UnixNano()
	record(s)
}

// startReplicas starts processes with the same task.
func startReplicas(t *testing.T, n int, task replicaTask) (processes []*exec.Cmd, outs []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range n {
		task.Out = filepath.Join(dir, fmt.Sprint(i))
		text, err := json.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^TestReplicaProcess$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), replicaTaskVariable+"="+string(text))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		processes, outs = append(processes, cmd), append(outs, task.Out)
	}
	return processes, outs
}

func readEvents(t *testing.T, path string) []event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []event
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// sequential is a budget as one caller after the other would see it: what is
// spent and reserved together.
func sequential(limit budget.Nanodollars) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return budget.Nanodollars(0) },
		Step: func(state, input, _ any) (bool, any) {
			used, e := state.(budget.Nanodollars), input.(event)
			switch {
			case e.Settle:
				return true, used + e.Actual - e.Amount
			case e.Admitted:
				return used+e.Amount <= limit, used + e.Amount
			}
			return used+e.Amount > limit, used
		},
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byUser := map[string][]porcupine.Operation{}
			for _, op := range history {
				user := op.Input.(event).User
				byUser[user] = append(byUser[user], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byUser {
				parts = append(parts, part)
			}
			return parts
		},
	}
}

func TestReplicasAreLinearizable(t *testing.T) {
	s := startRedis(t)
	task := replicaTask{URL: s.url(), Prefix: "test-" + budget.NewID(), Lease: ledgertest.LeaseTime, Workers: 3, Rounds: 60,
		Users: []string{"ann", "bob", "cid", "dan"}, Limit: 400}
	processes, outs := startReplicas(t, 4, task)
	var history []porcupine.Operation
	admitted, denied := 0, 0
	spent := map[string]budget.Nanodollars{}
	for i, p := range processes {
		if err := p.Wait(); err != nil {
			t.Fatalf("replica %d: %v", i, err)
		}
		for _, e := range readEvents(t, outs[i]) {
			history = append(history, porcupine.Operation{ClientId: i, Input: e, Call: e.Called, Return: e.Done})
			switch {
			case e.Settle:
				spent[e.User] += e.Actual
			case e.Admitted:
				admitted++
			default:
				denied++
			}
		}
	}
	if admitted < 50 || denied < 50 {
		t.Errorf("admitted %d, denied %d: too one-sided a history to tell anything", admitted, denied)
	}
	if got := porcupine.CheckOperationsTimeout(sequential(task.Limit), history, 20*time.Second); got != porcupine.Ok {
		t.Errorf("the history of %d calls is %s", len(history), got)
	}
	for user, want := range spent {
		wantAudit(t, s, task.Prefix, want, userDay(user, task.Limit))
	}
}

func TestReplicasAreKilled(t *testing.T) {
	s := startRedis(t)
	task := replicaTask{URL: s.url(), Prefix: "test-" + budget.NewID(), Lease: time.Second, Workers: 4, Rounds: 100_000,
		Users: []string{"ann"}, Limit: 1 << 40}
	processes, outs := startReplicas(t, 4, task)
	for i, p := range processes { // each in the middle of its work
		eventually(t, 20*time.Second, "work", func() bool {
			info, err := os.Stat(outs[i])
			return err == nil && info.Size() > 20_000
		})
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	// A kill leaves reservations of which we know no end: each is charged with
	// what it cost, or in full.
	var least, unknown budget.Nanodollars
	for _, out := range outs {
		for _, e := range readEvents(t, out) {
			switch {
			case e.Settle:
				least += e.Actual
				unknown -= e.Amount
			case e.Admitted:
				unknown += e.Amount
			}
		}
	}
	// One call per worker may have been carried out without having been noted.
	unknown += budget.Nanodollars(len(outs)*task.Workers) * 20
	r := newReplica(t, Config{URL: s.url(), Prefix: task.Prefix, OnLoss: OnLossClosed, Timeout: patient})
	var got budget.Status
	eventually(t, 10*time.Second, "charge of the dead replicas' leases", func() bool {
		all, err := r.Status(context.Background(), []budget.Limit{userDay("ann", task.Limit)})
		if err != nil {
			return false
		}
		got = all[0]
		return got.Reserved == 0
	})
	if got.Spent < least || got.Spent > least+unknown {
		t.Errorf("spent %d; the invoice says %d, and at most %d more", got.Spent, least, unknown)
	}
}
