package acceptance

import (
	"github.com/inference-router/inference-router/internal/command"
	"github.com/inference-router/inference-router/internal/testkit"

	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// The acceptance tests look at the program as its users do: they start it as a
// process of its own, with a configuration file, before scripted upstreams, and
// talk HTTP to it. They know nothing of the code.

// asProgram in the environment makes the test binary the program itself.
const asProgram = "INFERENCE_ROUTER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(command.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	if err := os.Chdir(".."); err != nil { // paths are those of the repository
		panic(err)
	}
	os.Exit(m.Run())
}

// program is the program as a command that runs in dir, with no more of an
// environment than env.
func program(t *testing.T, dir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	cmd.WaitDelay = time.Second
	return cmd
}

// outcome is how a command ended.
type outcome struct {
	code     int
	out, err string
}

// command runs the program to its end in a directory that holds files.
func runProgram(t *testing.T, files map[string]string, env []string, args ...string) outcome {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		testkit.Write(t, filepath.Join(dir, name), text)
	}
	cmd := program(t, dir, env, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// served is the program serving.
type served struct {
	url   string
	admin string // the admin listener's, when it has one
	dir   string // its working directory, with config.yaml
	log   *testkit.Buffer
	cmd   *exec.Cmd
	ended chan struct{} // closed once the process has ended
}

// serveConfig starts the program with the configuration and waits until it listens.
// Addresses of 127.0.0.1:0 are what tests want.
func serveConfig(t *testing.T, config string, env ...string) *served {
	t.Helper()
	s := &served{dir: t.TempDir(), log: new(testkit.Buffer), ended: make(chan struct{})}
	testkit.Write(t, filepath.Join(s.dir, "config.yaml"), config)
	s.cmd = program(t, s.dir, env)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		if log := s.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "goroutine ") {
			t.Errorf("the program's log:\n%s", log)
		}
	})
	s.url = "http://" + s.waitLog(t, `"listening","address":"([^"]+)"`)
	if strings.Contains(config, "admin_listen:") {
		s.admin = "http://" + s.waitLog(t, `"listening for admin routes","address":"([^"]+)"`)
	}
	return s
}

// waitLog waits until the log has a match, and returns its last group.
func (s *served) waitLog(t *testing.T, pattern string) string {
	t.Helper()
	want := regexp.MustCompile(pattern)
	var found []string
	testkit.Eventually(t, "the log has "+pattern, func() bool {
		select {
		case <-s.ended:
			if !want.MatchString(s.log.String()) {
				t.Fatalf("the program ended without a log of %s:\n%s", pattern, s.log.String())
			}
		default:
		}
		found = want.FindStringSubmatch(s.log.String())
		return found != nil
	})
	return found[len(found)-1]
}

// signal sends the program a signal.
func (s *served) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the program's end and returns its exit code.
func (s *served) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the program did not end in 20 s")
	}
	return s.cmd.ProcessState.ExitCode()
}

// answered is a response with its body read to the end.
type answered struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
	err     error // of reading the body
}

func (a answered) get(path string) gjson.Result { return gjson.Get(a.body, path) }

// plainClient keeps no connections, so that tests do not meet.
var plainClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

// do sends a request; headers are name, value, name, value.
func (s *served) do(t *testing.T, method, path, body string, headers ...string) answered {
	t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = s.url + path
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
			continue
		}
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	resp, err := plainClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	read, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, resp.Trailer, string(read), err}
}

// chat asks for a chat completion.
func (s *served) chat(t *testing.T, body string, headers ...string) answered {
	t.Helper()
	return s.do(t, "POST", "/v1/chat/completions", body, headers...)
}

// asking is a chat body: model, prompt, and further members as JSON.
func asking(model, prompt string, more ...string) string {
	m, _ := json.Marshal(model)
	p, _ := json.Marshal(prompt)
	body := `{"model":` + string(m) + `,"messages":[{"role":"user","content":` + string(p) + `}]`
	for _, member := range more {
		body += "," + member
	}
	return body + "}"
}

// wantError checks an error of ours: status, type and code, and its form.
func (a answered) wantError(t *testing.T, status int, kind, code string) {
	t.Helper()
	e := a.get("error")
	if a.status != status || e.Get("type").String() != kind || e.Get("code").String() != code {
		t.Errorf("got %d %s\nwant %d with type %q and code %q", a.status, a.body, status, kind, code)
		return
	}
	if e.Get("message").String() == "" || !e.Get("param").Exists() || !e.Get("code").Exists() {
		t.Errorf("error object %s, want message, type, param and code", a.body)
	}
	if a.header.Get("X-Request-Id") == "" {
		t.Error("the error has no X-Request-Id")
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q of an error", got)
	}
}

// wantHeader checks one response header.
func (a answered) wantHeader(t *testing.T, name, want string) {
	t.Helper()
	if got := a.header.Get(name); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

// got is a request that an upstream received.
type got struct {
	path   string
	header http.Header
	body   string
}

// fake is a scripted upstream.
type fake struct {
	*httptest.Server
	mu       sync.Mutex
	requests []got
	script   atomic.Pointer[http.HandlerFunc]
	gone     chan struct{} // one for each request whose context ended before its handler
}

// newFake starts an upstream with a script.
func newFake(t *testing.T, script http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{gone: make(chan struct{}, 1000)}
	f.script.Store(&script)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.requests = append(f.requests, got{r.URL.Path, r.Header.Clone(), string(body)})
		f.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		(*f.script.Load())(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// now changes the script.
func (f *fake) now(script http.HandlerFunc) { f.script.Store(&script) }

// seen are the requests so far.
func (f *fake) seen() []got {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// last is the latest request.
func (f *fake) last(t *testing.T) got {
	t.Helper()
	all := f.seen()
	if len(all) == 0 {
		t.Fatal("the upstream got no request")
	}
	return all[len(all)-1]
}

// completion is a whole answer of 100 input and 10 output tokens.
const completion = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"Paris"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}`

// events are the stream that means the same.
var events = []string{
	`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
	`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":{"content":"Pa"},"finish_reason":null}]}`,
	`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":{"content":"ris"},"finish_reason":null}]}`,
	`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
}

const usageEvent = `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}}`

// streamed reports whether a stream is asked for.
func streamed(r *http.Request) bool {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return gjson.GetBytes(body, "stream").Bool()
}

// sse sends events one by one.
func sse(w http.ResponseWriter, data ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, d := range data {
		_, _ = io.WriteString(w, "data: "+d+"\n\n")
		_ = http.NewResponseController(w).Flush()
	}
}

// answersWell answers whole or as a stream, with usage.
func answersWell(w http.ResponseWriter, r *http.Request) {
	if !streamed(r) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, completion)
		return
	}
	all := slices.Clone(events)
	body, _ := io.ReadAll(r.Body)
	if gjson.GetBytes(body, "stream_options.include_usage").Bool() {
		all = append(all, usageEvent)
	}
	sse(w, append(all, "[DONE]")...)
}

// answersWith always gives the same.
func answersWith(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// resets closes the connection with a reset once the request is read.
func resets(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		reset(c)
	}
}

// loopback is the beginning of every configuration.
const loopback = "server: {listen: '127.0.0.1:0'}\n"

// upstreamLine is one upstream of a tier, in a configuration.
func upstreamLine(f *fake, model string, more ...string) string {
	line := fmt.Sprintf("{provider: openai, model: %s, base_url: '%s/v1', api_key: sk-canary-1234, price: {input: 1, output: 10}", model, f.URL)
	for _, m := range more {
		line += ", " + m
	}
	return line + "}"
}

// threeTiersOf are fast, balanced and powerful, each with one upstream.
func threeTiersOf(f *fake) string {
	text := loopback + "tiers:\n"
	for i, tier := range []string{"fast", "balanced", "powerful"} {
		text += fmt.Sprintf("  %s:\n    - {provider: openai, model: m-%s, base_url: '%s/v1', api_key: sk-canary-1234, price: {input: %d, output: %d}}\n",
			tier, tier, f.URL, 1+i*2, 10+i*20)
	}
	return text
}

// oneTierOf is a configuration of one tier with the upstreams in order.
func oneTierOf(upstreams ...string) string {
	text := loopback + "tiers:\n  fast:\n"
	for _, u := range upstreams {
		text += "    - " + u + "\n"
	}
	return text
}

// dataOf are the data of a stream's events, comments left out.
func dataOf(body string) []string {
	var all []string
	for event := range strings.SplitSeq(body, "\n\n") {
		if data, ok := strings.CutPrefix(event, "data: "); ok {
			all = append(all, data)
		}
	}
	return all
}

// usd reads an amount that is a plain decimal, in nano-dollars.
func nano(t *testing.T, text string) int64 {
	t.Helper()
	whole, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > 9 {
		t.Errorf("amount %q has more than nine places", text)
		return 0
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", 9-len(fraction)), 10, 64)
	if err != nil {
		t.Errorf("amount %q is no plain decimal", text)
	}
	return n
}

// readFile is a file's text, "" while there is none.
func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}
