package acceptance

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inference-router/inference-router/internal/testkit"
)

var updateReadme = flag.Bool("update-readme", false, "rewrite what README.md quotes: the output of commands")

// block is a fenced block of README.md. The comment before it says what is
// done with it here:
//
//	<!-- check -->            it is a configuration that `check` accepts
//	<!-- serve -->            it is started, and what follows talks to it
//	<!-- run -->              it is run
//	<!-- prints -->           it is what the block before it prints
//	<!-- run by FILE -->      FILE runs it
//	<!-- not run: needs … --> it cannot be run by a test
type block struct {
	line           int // of the fence
	language, note string
	text           string
}

var fenced = regexp.MustCompile("(?ms)^(?:<!-- ([^\n]*) -->\n)?```([a-z]+)\n(.*?)^```$")

func readmeBlocks(t *testing.T) []block {
	t.Helper()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, at := range fenced.FindAllSubmatchIndex(page, -1) {
		b := block{line: 1 + bytes.Count(page[:at[4]], []byte("\n")), language: string(page[at[4]:at[5]]), text: string(page[at[6]:at[7]])}
		if at[2] >= 0 {
			b.note = string(page[at[2]:at[3]])
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// quotes checks that the block says want, or with -update-readme makes it so.
func (b block) quotes(t *testing.T, want, source string) {
	t.Helper()
	if b.text == want {
		return
	}
	if !*updateReadme {
		t.Errorf("README.md:%d differs from %s; go test . -run Readme -update-readme rewrites it\ngot:\n%swant:\n%s", b.line, source, b.text, want)
		return
	}
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("README.md", bytes.Replace(page, []byte(b.text), []byte(want), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadmeConfigurationIsValid(t *testing.T) {
	checked := 0
	for _, b := range readmeBlocks(t) {
		if b.note != "check" {
			continue
		}
		checked++
		dir := t.TempDir()
		testkit.Write(t, filepath.Join(dir, "config.yaml"), b.text)
		if out, err := program(t, dir, []string{"OPENAI_API_KEY=k"}, "check").CombinedOutput(); err != nil {
			t.Errorf("README.md:%d: %v\n%s", b.line, err, out)
		}
	}
	if checked != 1 {
		t.Errorf("README.md has %d configurations to check, want one", checked)
	}
}

func TestReadmeCommandsAndSnippetsWork(t *testing.T) {
	r := readme{dir: t.TempDir(), cleanup: t.Cleanup}
	r.binary = filepath.Join(r.dir, "inference-router")
	if out, err := exec.Command("go", "build", "-o", r.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var printed string // by the command before
	for _, b := range readmeBlocks(t) {
		name := fmt.Sprintf("line %d", b.line)
		switch {
		case b.note == "prints":
			t.Run(name, func(t *testing.T) { b.quotes(t, printed, "the output of the command before it") })
		case b.language == "sh":
			t.Run(name, func(t *testing.T) { printed = r.shell(t, b) })
		case b.language == "go":
			t.Run(name, func(t *testing.T) { r.goProgram(t, b) })
		case b.language == "python":
			t.Run(name, func(t *testing.T) { r.pythonProgram(t, b) })
		case b.language == "js":
			t.Run(name, func(t *testing.T) { r.nodeProgram(t, b) })
		}
	}
	if r.server == nil {
		t.Fatal("README.md starts no server")
	}
	r.stop(t)
}

// readme runs blocks of the page, against the server that the page starts.
type readme struct {
	dir, binary string
	cleanup     func(func()) // of the whole test
	server      *exec.Cmd
	address     string // host:port of the server
}

// shell does with a block of commands what its note says, and returns what it
// printed.
func (r *readme) shell(t *testing.T, b block) string {
	switch what, detail, _ := strings.Cut(b.note, " "); {
	case b.note == "serve":
		r.serve(t, b)
	case b.note == "run":
		out := r.run(t, "bash", "-euo", "pipefail", "-c", r.here(b.text))
		if strings.Contains(out, `"error":{`) {
			t.Errorf("got an error: %s", out)
		}
		return out
	case what == "run" && strings.HasPrefix(detail, "by "):
		file, err := os.ReadFile(strings.TrimPrefix(detail, "by "))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(b.text) {
			if !bytes.Contains(file, []byte(filepath.Base(word))) {
				t.Errorf("%s does not run %q: no %s in it", strings.TrimPrefix(detail, "by "), b.text, word)
			}
		}
	case strings.HasPrefix(b.note, "not run: needs "):
	default:
		t.Errorf("the comment before the block is %q; it must say how the commands are tested", b.note)
	}
	return ""
}

// here puts the server's address and the built program into a command.
func (r *readme) here(text string) string {
	text = strings.ReplaceAll(text, "localhost:8080", r.address)
	return strings.ReplaceAll(text, "go run . ", r.binary+" ")
}

func (r *readme) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
	}
	if len(bytes.TrimSpace(out)) == 0 {
		t.Fatalf("it prints nothing\n%s", stderr.Bytes())
	}
	return string(out)
}

var baseURL = regexp.MustCompile(`base URL +http://([^/]+)/v1`)

// serve starts the server, on a port that is free.
func (r *readme) serve(t *testing.T, b block) {
	words := append(strings.Fields(r.here(b.text)), "-listen", "127.0.0.1:0", "-seed", "1")
	out, err := os.Create(filepath.Join(r.dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r.server = exec.Command(words[0], words[1:]...)
	r.server.Stdout, r.server.Stderr = out, out
	if err := r.server.Start(); err != nil {
		t.Fatal(err)
	}
	r.cleanup(func() { r.server.Process.Kill() }) // does nothing after stop
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		if found := baseURL.FindSubmatch(text); found != nil {
			r.address = string(found[1])
			return
		}
	}
	text, _ := os.ReadFile(out.Name())
	r.server.Process.Kill()
	t.Fatalf("%q is not up after 30 seconds\n%s", b.text, text)
}

func (r *readme) stop(t *testing.T) {
	if err := r.server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := r.server.Wait(); err != nil {
		t.Errorf("the server ended with %v, want exit code 0 on SIGTERM", err)
	}
}

func (r *readme) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.WriteFile(file, []byte(r.here(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func (r *readme) goProgram(t *testing.T, b block) {
	r.run(t, "go", "run", r.write(t, "snippet.go", b.text))
}

// clients are where .ci/conformance installs OpenAI's own.
const clients = "proxy/conformance"

func (r *readme) pythonProgram(t *testing.T, b block) {
	python := filepath.Join(clients, ".venv/bin/python")
	needsClient(t, python)
	r.run(t, python, r.write(t, "snippet.py", b.text))
}

func (r *readme) nodeProgram(t *testing.T, b block) {
	modules, err := filepath.Abs(filepath.Join(clients, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	needsClient(t, filepath.Join(modules, "openai"))
	if err := os.Symlink(modules, filepath.Join(r.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	r.run(t, "node", r.write(t, "snippet.mjs", b.text))
}

func needsClient(t *testing.T, path string) {
	t.Helper()
	_, err := os.Stat(path)
	switch {
	case err == nil:
	case !errors.Is(err, os.ErrNotExist) || os.Getenv("REQUIRE_ALL") == "1":
		t.Fatal(err)
	default:
		t.Skipf("%s is missing; .ci/conformance install puts it there", path)
	}
}
