package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/tidwall/gjson"
)

func TestContract1_ExitCodes(t *testing.T) {
	files := map[string]string{"config.yaml": testkit.Minimal, "bad.yaml": "tiers: {fast: [{provider: simulated, model: small}]}\nstrategi: []\n"}
	for _, tt := range []struct {
		name string
		args []string
		code int
		out  string
		err  string
	}{
		{"version", []string{"version"}, 0, "go1.", ""},
		{"check of the default file", []string{"check"}, 0, "simulated/small", ""},
		{"check of a bad file names file, line, column and key", []string{"check", "-config", "bad.yaml"}, 1, "", "bad.yaml:2:1: strategi: unknown key"},
		{"a missing file", []string{"check", "-config", "none.yaml"}, 1, "", "none.yaml"},
		{"serving a bad file", []string{"-config", "bad.yaml"}, 1, "", "bad.yaml:2:1: strategi: unknown key"},
		{"serving a bad file by name", []string{"serve", "-config", "bad.yaml"}, 1, "", "bad.yaml:2:1: strategi: unknown key"},
		{"an unknown command", []string{"srve"}, 2, "", "serve"},
		{"an unknown flag", []string{"serve", "-nope"}, 2, "", "-nope"},
		{"explain without a prompt", []string{"explain"}, 2, "", "prompt"},
		{"an address in use or nonsense", []string{"demo", "-listen", "nonsense"}, 1, "", "nonsense"},
		{"help", []string{"-h"}, 0, "explain", ""},
		{"help on serve", []string{"serve", "-h"}, 0, "-config", ""},
		{"help on demo", []string{"demo", "-h"}, 0, "-listen", ""},
		{"help on check", []string{"check", "-h"}, 0, "-config", ""},
		{"help on explain", []string{"explain", "-h"}, 0, "-json", ""},
		{"help on version", []string{"version", "-h"}, 0, "version", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := runProgram(t, files, nil, tt.args...)
			if o.code != tt.code || !strings.Contains(o.out, tt.out) || !strings.Contains(o.err, tt.err) {
				t.Errorf("exit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", o.code, tt.code, o.out, tt.out, o.err, tt.err)
			}
		})
	}
}

func TestContract1_CheckShowsPricesAndWhereTheyComeFrom(t *testing.T) {
	o := runProgram(t, map[string]string{"config.yaml": `
tiers:
  fast: [{provider: groq, model: llama-3.3-70b-versatile, api_key: k}]
  own: [{provider: vllm, model: m, price: {input: 0.5, output: 1.25}}]
  unknown: [{provider: nvidia, model: guess, api_key: k}]
`}, nil, "check")
	if o.code != 0 {
		t.Fatalf("exit %d: %s", o.code, o.err)
	}
	for _, want := range []string{`groq/llama-3.3-70b-versatile +\S+ +\S+`, `vllm/m +0\.50 +1\.25 .*config`, `nvidia/guess .*guess`, `warning: config.yaml:5:\d+: tiers.unknown\[0\]`} {
		if !regexp.MustCompile(want).MatchString(o.out) {
			t.Errorf("check does not print %s:\n%s", want, o.out)
		}
	}
	missing := runProgram(t, map[string]string{"config.yaml": "tiers: {fast: [{provider: openai, model: gpt-5}]}\n"}, nil, "check")
	if missing.code != 1 || !strings.Contains(missing.err, "OPENAI_API_KEY") || !strings.Contains(missing.err, "config.yaml:1:") {
		t.Errorf("a missing key: exit %d, %s", missing.code, missing.err)
	}
}

func TestContract1_DotenvIsLoadedAndTheEnvironmentWins(t *testing.T) {
	files := map[string]string{
		"config.yaml": "tiers: {fast: [{provider: vllm, model: '${FROM_FILE}-${FROM_BOTH}', price: {input: 1, output: 1}}]}\n",
		".env":        "FROM_FILE=file\nFROM_BOTH=file\n",
	}
	o := runProgram(t, files, []string{"FROM_BOTH=process"}, "check")
	if o.code != 0 || !strings.Contains(o.out, "vllm/file-process") {
		t.Errorf("exit %d: %s%s", o.code, o.out, o.err)
	}
}

func TestContract1_Explain(t *testing.T) {
	text := runProgram(t, map[string]string{"config.yaml": threeSimulated}, nil, "explain", "explain how transformers work")
	for _, want := range []string{"3.5", "complexity", "balanced", "reason"} {
		if text.code != 0 || !strings.Contains(text.out, want) {
			t.Errorf("explain: exit %d, %q not in\n%s%s", text.code, want, text.out, text.err)
		}
	}
	o := runProgram(t, map[string]string{"config.yaml": threeSimulated}, nil, "explain", "-json", "explain how transformers work")
	for _, key := range []string{"decision", "time", "model", "tier", "upstream", "forced", "score", "strategies.0.name", "strategies.0.allowed.0", "strategies.0.reason", "reason",
		"breakdown.length", "breakdown.questions", "breakdown.reasoning", "breakdown.code", "breakdown.simple"} {
		if !gjson.Get(o.out, key).Exists() {
			t.Errorf("explain -json has no %s:\n%s", key, o.out)
		}
	}
}

// threeSimulated are the usual tiers without any network.
const threeSimulated = loopback + `tiers:
  fast: [{provider: simulated, model: small}]
  balanced: [{provider: simulated, model: medium}]
  powerful: [{provider: simulated, model: large}]
`

func TestContract1_Demo(t *testing.T) {
	s := &served{dir: t.TempDir(), log: new(testkit.Buffer), ended: make(chan struct{})}
	s.cmd = program(t, s.dir, nil, "demo", "-listen", "127.0.0.1:0")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	s.url = strings.TrimSuffix(s.waitLog(t, `(http://[0-9.:]+)/v1`), "/v1")
	s.waitLog(t, `/dashboard`)
	s.waitLog(t, `from openai import OpenAI`)
	s.waitLog(t, `curl .*/v1/chat/completions`)
	a := s.chat(t, asking("fast", "hi", `"max_tokens":2`))
	if a.status != 200 || a.header.Get("X-Router-Cost-USD") == "" {
		t.Errorf("a chat with the demo: %d %v %s", a.status, a.header, a.body)
	}
	if page := s.do(t, "GET", "/dashboard", ""); page.status != 200 || !strings.Contains(page.body, "<html") {
		t.Errorf("the dashboard: %d", page.status)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
		t.Errorf("the demo wrote files: %v %v", left, err)
	}
	s.signal(t, syscall.SIGTERM)
	if code := s.exit(t); code != 0 {
		t.Errorf("exit %d after SIGTERM", code)
	}
}

func TestContract2_SocketAndSidecarRefusals(t *testing.T) {
	for _, tt := range []struct{ name, config, want string }{
		{"sidecar on all addresses", "server: {listen: '0.0.0.0:0'}\n", "config.yaml:1:18: server.listen: "},
		{"sidecar without a host", "server: {listen: ':0'}\n", "config.yaml:1:18: server.listen: "},
		{"sidecar with a foreign admin listener", "server: {admin_listen: '0.0.0.0:0'}\n", "config.yaml:1:24: server.admin_listen: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := runProgram(t, map[string]string{"config.yaml": tt.config + testkit.Minimal}, nil)
			if o.code != 1 || !strings.Contains(o.err, tt.want) {
				t.Errorf("exit %d: %s", o.code, o.err)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "s")
	s := &served{dir: t.TempDir(), log: new(testkit.Buffer), ended: make(chan struct{})}
	testkit.Write(t, filepath.Join(s.dir, "config.yaml"), "server: {listen: 'unix:"+path+"'}\n"+testkit.Minimal)
	s.cmd = program(t, s.dir, nil)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	s.waitLog(t, `"listening"`)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	resp, err := testkit.OverUnix(path).Get("http://any.example/livez")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("livez over the socket: %d", resp.StatusCode)
	}
}
