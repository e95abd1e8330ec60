package conformance

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Target is the router that the clients talk to.
type Target struct {
	BaseURL string // what an OpenAI client calls its base URL
	APIKey  string
	Model   string // whose part a player plays
	// EmbeddingModel is a model for embeddings; "" leaves them out.
	EmbeddingModel string
}

// Run starts every client's script, each as a subtest with one subtest a
// check. A client whose packages are not installed is skipped, unless
// REQUIRE_ALL=1 is set: then it fails.
func Run(t *testing.T, to Target) {
	node := []string{"node"}
	python := []string{pythonPath()}
	for _, script := range []struct {
		name    string
		command []string
		probe   []string // succeeds where the script can run
	}{
		{"openai.mjs", node, []string{"node", "-e", `require.resolve("openai")`}},
		{"aisdk.mjs", node, []string{"node", "-e", `require.resolve("ai"); require.resolve("@ai-sdk/openai"); require.resolve("@ai-sdk/openai-compatible")`}},
		{"langchain.mjs", node, []string{"node", "-e", `require.resolve("@langchain/openai")`}},
		{"openai_client.py", python, []string{python[0], "-c", "import openai"}},
		{"langchain_client.py", python, []string{python[0], "-c", "import langchain_openai"}},
	} {
		t.Run(script.name, func(t *testing.T) {
			if out, err := command(t, to, script.probe...).CombinedOutput(); err != nil {
				missing(t, "the client is not installed (npm ci, pip install -r requirements.txt): %v %s", err, lastLine(out))
			}
			report(t, command(t, to, append(script.command, script.name)...))
		})
	}
}

// pythonPath is $PYTHON, else that of a virtual environment beside the
// scripts, else python3.
func pythonPath() string {
	if p := os.Getenv("PYTHON"); p != "" {
		return p
	}
	if p := filepath.Join(dir(), ".venv", "bin", "python"); exists(p) {
		return p
	}
	return "python3"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// dir is where the scripts are: beside this file.
func dir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// command is one run of a script, in the directory of the scripts and with
// nothing of our environment that would lead a client elsewhere.
func command(t *testing.T, to Target, args ...string) *exec.Cmd {
	c := exec.CommandContext(t.Context(), args[0], args[1:]...)
	c.Dir = dir()
	c.WaitDelay = 10 * time.Second
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "OPENAI_") && !strings.HasPrefix(name, "LANG") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, "BASE_URL="+to.BaseURL, "API_KEY="+to.APIKey, "MODEL="+to.Model,
		"EMBEDDING_MODEL="+to.EmbeddingModel, "PYTHONDONTWRITEBYTECODE=1", "LANGSMITH_TRACING=false")
	return c
}

// report makes a subtest of each line that a script prints: "ok NAME" or
// "FAIL NAME: why".
func report(t *testing.T, script *exec.Cmd) {
	var stderr bytes.Buffer
	script.Stderr = &stderr
	out, err := script.Output()
	checks := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "ok "); ok {
			checks++
			t.Run(name, func(*testing.T) {})
		} else if name, ok := strings.CutPrefix(line, "FAIL "); ok {
			checks++
			t.Run(name, func(t *testing.T) { t.Error(line) })
		}
	}
	if checks == 0 || err != nil && !t.Failed() {
		t.Errorf("%d checks, %v: %s", checks, err, lastLine(stderr.Bytes()))
	}
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
