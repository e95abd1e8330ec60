package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inference-router/inference-router/internal/testkit"
)

// running is a proxy in this process, as `serve` or `demo` runs it.
type running struct {
	url    string
	stop   chan<- os.Signal
	hangup chan<- os.Signal
	ended  <-chan error
	log    *testkit.Buffer
	out    *testkit.Buffer
}

var listening = regexp.MustCompile(`"listening","address":"([^"]+)"`)

// startServe serves a configuration that listens on 127.0.0.1:0.
func startServe(t *testing.T, file string) *running {
	t.Helper()
	r := start(t, func(c console, told signals) error { return serve(t.Context(), c, file, told) })
	r.url = "http://" + r.waitFor(t, r.log, listening)
	return r
}

func start(t *testing.T, run func(c console, told signals) error) *running {
	t.Helper()
	stop, hangup, ended := make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan error, 1)
	r := &running{stop: stop, hangup: hangup, ended: ended, log: new(testkit.Buffer), out: new(testkit.Buffer)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- run(console{r.out, r.log}, signals{stop, hangup})
	}()
	t.Cleanup(func() {
		for range 2 {
			select {
			case stop <- syscall.SIGTERM:
			default:
			}
		}
		<-done
	})
	return r
}

// waitFor returns the first group of the pattern once it is written.
func (r *running) waitFor(t *testing.T, b *testkit.Buffer, pattern *regexp.Regexp) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if m := pattern.FindStringSubmatch(b.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case err := <-r.ended:
			t.Fatalf("ended with %v; log:\n%s", err, r.log.String())
		default:
		}
	}
	t.Fatalf("%s was not written in 10 s, but:\n%s", pattern, b.String())
	return ""
}

// get returns the status and the body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// ask posts a chat and returns the answer, whose body the test closes.
func ask(t *testing.T, url, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

const local = "server: {listen: 127.0.0.1:0, drain_delay: 0s}\n"

func TestServeAnswersReloadsAndStops(t *testing.T) {
	t.Chdir(t.TempDir())
	decisions := filepath.Join(t.TempDir(), "decisions.jsonl")
	file := inFile(t, testkit.Minimal+local+"log: {decisions: "+decisions+"}\n")
	r := startServe(t, file)

	resp := ask(t, r.url, `{"model":"auto","max_tokens":1,"messages":[{"role":"user","content":"what is the capital of France?"}]}`)
	if resp.StatusCode != 200 || resp.Header.Get("X-Router-Tier") != "fast" || resp.Header.Get("X-Router-Model") != "simulated/small" {
		t.Fatalf("answer %d with %v", resp.StatusCode, resp.Header)
	}

	testkit.Write(t, file, testkit.Minimal+local+"log: {decisions: "+decisions+"}\nmodels: {aliases: {fresh: powerful}}\n")
	r.waitFor(t, r.log, regexp.MustCompile(`configuration (reloaded)`))
	if code, body := get(t, r.url+"/v1/models/fresh"); code != 200 {
		t.Errorf("the new alias: %d %s", code, body)
	}

	testkit.Write(t, file, "tiers: nonsense\n")
	r.waitFor(t, r.log, regexp.MustCompile(`(not reloaded).*want a mapping of names to values`))
	if code, body := get(t, r.url+"/v1/models/fresh"); code != 200 {
		t.Errorf("after an invalid file: %d %s", code, body)
	}

	testkit.Write(t, file, testkit.Minimal+"server: {listen: 0.0.0.0:1}\n")
	r.waitFor(t, r.log, regexp.MustCompile(`(not reloaded).*identity.mode sidecar believes`))

	r.stop <- syscall.SIGTERM
	if err := <-r.ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
	line, err := os.ReadFile(decisions)
	var record struct{ Tier string }
	if err != nil || json.Unmarshal(line, &record) != nil || record.Tier != "fast" {
		t.Errorf("decision log %q, %v, want a line with tier fast", line, err)
	}
}

func TestDecisionLogIsOpenedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	d := newDecisionLog()
	say := func(line string) {
		if _, err := d.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	say("dropped: no file yet")
	for _, line := range []string{"one", "two"} {
		file, err := openLines(path)
		if err != nil {
			t.Fatal(err)
		}
		d.swap(file)
		say(line)
		if err := os.Rename(path, path+"."+line); err != nil { // as a rotation does
			t.Fatal(err)
		}
	}
	if _, err := d.queue.Write([]byte("last\n")); err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{".one": "one\n", ".two": "two\nlast\n"} {
		if got, err := os.ReadFile(path + name); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestServeOnAUnixSocketWithAdminApart(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	data, admin := filepath.Join(dir, "data"), filepath.Join(dir, "admin")
	r := start(t, func(c console, told signals) error {
		return serve(t.Context(), c, inFile(t, testkit.Minimal+"server: {listen: 'unix:"+data+"', admin_listen: 'unix:"+admin+"'}\n"), told)
	})
	r.waitFor(t, r.log, regexp.MustCompile(`listening for (admin) routes`))
	for _, want := range []struct {
		socket, path string
		code         int
	}{{data, "/v1/models", 200}, {data, "/metrics", 404}, {admin, "/metrics", 200}, {admin, "/v1/models", 404}, {admin, "/readyz", 200}} {
		resp, err := testkit.OverUnix(want.socket).Get("http://localhost" + want.path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want.code {
			t.Errorf("%s on %s: %d, want %d", want.path, filepath.Base(want.socket), resp.StatusCode, want.code)
		}
	}
}

func TestDrainDelayStillServesButIsNotReady(t *testing.T) {
	t.Chdir(t.TempDir())
	r := startServe(t, inFile(t, testkit.Minimal+"server: {listen: 127.0.0.1:0, drain_delay: 1h}\n"))
	if code, _ := get(t, r.url+"/readyz"); code != 200 {
		t.Errorf("readyz before = %d", code)
	}
	r.stop <- syscall.SIGTERM
	r.waitFor(t, r.log, regexp.MustCompile(`"(draining)"`))
	for deadline := time.Now().Add(5 * time.Second); ; {
		code, _ := get(t, r.url+"/readyz")
		if code == 503 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("readyz = %d while draining", code)
		}
	}
	if code, _ := get(t, r.url+"/v1/models"); code != 200 {
		t.Errorf("requests during drain_delay = %d, want them served", code)
	}
	r.stop <- syscall.SIGTERM
	if err := <-r.ended; !errors.Is(err, errSecondSignal) {
		t.Errorf("after a second signal: %v, want %v", err, errSecondSignal)
	}
}

func TestDrainTimeoutEndsStreamsWithAnErrorEvent(t *testing.T) {
	t.Chdir(t.TempDir())
	r := startServe(t, inFile(t, testkit.Minimal+"server: {listen: 127.0.0.1:0, drain_timeout: 100ms}\n"))
	resp := ask(t, r.url, `{"model":"powerful","stream":true,"messages":[{"role":"user","content":"compare B-trees vs LSM trees"}]}`)
	if resp.StatusCode != 200 {
		t.Fatalf("answer %d", resp.StatusCode)
	}
	r.stop <- syscall.SIGTERM // the answer takes two seconds more
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(body); strings.Contains(text, "[DONE]") || !strings.Contains(text, `data: {"error":`) {
		t.Errorf("the stream ended with %q, want an error event and no [DONE]", text[max(0, len(text)-300):])
	}
	if err := <-r.ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestDotenvIsReadAgainOnReload(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Cleanup(func() { os.Unsetenv("ROUTER_TEST_ALIAS") })
	testkit.Write(t, ".env", "ROUTER_TEST_ALIAS=fast\n")
	r := startServe(t, inFile(t, testkit.Minimal+local+"models: {aliases: {x: '${ROUTER_TEST_ALIAS}'}}\n"))
	testkit.Write(t, ".env", "ROUTER_TEST_ALIAS=nowhere\n")
	r.hangup <- syscall.SIGHUP
	r.waitFor(t, r.log, regexp.MustCompile(`(not reloaded).*models.aliases.x`))
}

func TestServeFailures(t *testing.T) {
	t.Chdir(t.TempDir())
	taken, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, src := range map[string]string{
		":6:18: server.listen: listen on ":                                   testkit.Minimal + "server: {listen: '" + taken.Addr().String() + "'}\n",
		":7:18: log.decisions: cannot be opened for writing: is a directory": testkit.Minimal + local + "log: {decisions: /}\n",
		"no such file":            "",
		"want host:port, such as": testkit.Minimal + "server: {listen: nonsense}\n",
	} {
		file := filepath.Join(t.TempDir(), "missing")
		if src != "" {
			file = inFile(t, src)
		}
		code, _, errOut := runCommand(t, "serve", "-config", file)
		if code != 1 || !strings.Contains(errOut, name) {
			t.Errorf("%s: exit code %d, stderr %q", name, code, errOut)
		}
	}
}

func TestDemo(t *testing.T) {
	r := start(t, func(c console, told signals) error {
		return demo(t.Context(), c, "127.0.0.1:0", 1, 0, told)
	})
	base := r.waitFor(t, r.out, regexp.MustCompile(`base URL +(http://\S+)/v1`))
	if code, body := get(t, base+"/"); code != 200 || !strings.Contains(body, `"tiers":["fast","balanced","powerful"]`) {
		t.Errorf("GET / = %d %s", code, body)
	}
	if code, body := get(t, base+"/dashboard"); code != 200 || !strings.Contains(body, "dashboard/app.js") {
		t.Errorf("dashboard = %d, %d bytes", code, len(body))
	}
	resp := ask(t, base, `{"model":"auto","max_tokens":40,"messages":[{"role":"user","content":"what is the capital of France?"}]}`)
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Choices) != 1 || !strings.Contains(answer.Choices[0].Message.Content, "capital of France") {
		t.Errorf("answer %d %+v, %v", resp.StatusCode, answer, err)
	}
	if cost := resp.Header.Get("X-Router-Cost-USD"); !regexp.MustCompile(`^0\.[0-9]+$`).MatchString(cost) {
		t.Errorf("X-Router-Cost-USD = %q, want a price", cost)
	}
	r.stop <- syscall.SIGINT
	if err := <-r.ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

func TestWelcomeOverAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := start(t, func(c console, told signals) error { return demo(t.Context(), c, "unix:"+path, 1, 0, told) })
	r.waitFor(t, r.out, regexp.MustCompile(`(curl --unix-socket `+regexp.QuoteMeta(path)+` -i http://localhost/v1/chat/completions)`))
}

func TestExplain(t *testing.T) {
	file := inFile(t, "tiers:\n  fast: [{provider: simulated, model: s}]\n  balanced: [{provider: simulated, model: m}]\n  powerful: [{provider: simulated, model: l}]\n")
	code, out, errOut := runCommand(t, "explain", "-config", file, "compare B-trees vs LSM trees, explain tradeoffs", "-json")
	var d struct {
		Decision, Model, Tier, Upstream string
		Score                           float64
		Strategies                      []struct{ Name, Reason string }
	}
	if err := json.Unmarshal([]byte(out), &d); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v, %s, %s", code, err, out, errOut)
	}
	if d.Decision == "" || d.Model != "auto" || d.Tier != "powerful" || d.Upstream != "simulated/l" || d.Score != 7.5 || len(d.Strategies) != 1 {
		t.Errorf("decision = %+v", d)
	}
	for prompt, want := range map[string]string{
		"what is the capital of France?":    "fast",
		"explain how transformers work":     "balanced",
		"compare B-trees vs LSM trees":      "powerful",
		"explain recursion in one sentence": "fast",
	} {
		if _, out, _ := runCommand(t, "explain", "-config", file, prompt); !regexp.MustCompile(`(?m)^tier +` + want + `$`).MatchString(out) {
			t.Errorf("explain %q printed\n%s\nwant tier %s", prompt, out, want)
		}
	}
	if code, _, errOut := runCommand(t, "explain", "-config", file); code != 2 || !strings.Contains(errOut, "want one prompt, in quotes") {
		t.Errorf("without a prompt: exit code %d, %q", code, errOut)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	file := inFile(t, testkit.Minimal+local)
	r := start(t, func(c console, told signals) error { return serve(ctx, c, file, told) })
	r.waitFor(t, r.log, listening)
	cancel()
	if err := <-r.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}
