package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// startRedis runs a Redis of the test's own and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil && os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatal("redis-server is not installed, and REQUIRE_ALL=1")
	} else if err != nil {
		t.Skip("redis-server is not installed")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "redis.sock")
	server := exec.Command(binary, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			return "unix://" + socket
		}
		if time.Now().After(deadline) {
			t.Fatal("redis-server did not open its socket in 10 s")
		}
	}
}

func TestReplicasShareABudget(t *testing.T) {
	t.Chdir(t.TempDir())
	file := inFile(t, minimal+local+"redis: {url: '"+startRedis(t)+"'}\nbudgets: [{scope: user, usd: 1, on_exhausted: reject}]\n")
	one, two := startServe(t, file), startServe(t, file)
	resp := ask(t, one.url, `{"model":"fast","max_tokens":1,"user":"ann","messages":[{"role":"user","content":"hi"}]}`)
	if resp.StatusCode != 200 {
		t.Fatalf("answer %d", resp.StatusCode)
	}
	// The settlement is sent behind the answer.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, body := get(t, two.url+"/budgets?user=ann")
		if regexp.MustCompile(`"spent_usd":0\.\d+,"reserved_usd":0,`).MatchString(body) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other replica says %s", body)
		}
	}
	if _, body := get(t, two.url+"/readyz"); !strings.Contains(body, `"store":"up"`) {
		t.Errorf("readyz = %s", body)
	}
}

func TestServeWithoutItsRedis(t *testing.T) {
	t.Chdir(t.TempDir())
	missing := "unix://" + filepath.Join(t.TempDir(), "nothing.sock")
	r := startServe(t, inFile(t, minimal+local+"redis: {url: '"+missing+"', on_loss: open}\n"))
	if code, body := get(t, r.url+"/readyz"); code != 200 || !strings.Contains(body, `"store":"lost"`) {
		t.Errorf("readyz = %d %s, want it ready and the store lost", code, body)
	}
}

func TestRedisAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"redis://localhost:6379/1":                                   "*redis.Client",
		"rediss://user:pw@localhost":                                 "*redis.Client",
		"unix:///run/redis.sock":                                     "*redis.Client",
		"redis://localhost:7000?addr=localhost:7001":                 "*redis.ClusterClient",
		"redis://localhost:7000?cluster=true":                        "*redis.ClusterClient",
		"redis://localhost:26379?master_name=m&addr=localhost:26380": "*redis.Client",
	} {
		client, err := redisClient(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if got := fmt.Sprintf("%T", client); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
		client.Close()
	}
	for _, address := range []string{"http://:canary@localhost", "redis://:canary@local host", "redis://:canary@localhost?bad=1"} {
		_, err := ParseConfig("config.yaml", []byte(minimal+"redis: {url: '"+address+"'}\n"), variables{}.lookup)
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "config.yaml:6:14: redis.url: not a Redis address") {
			t.Errorf("%s: error %v, want one with its place and without the password", address, err)
		}
	}
}
