package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/internal/config"

	"github.com/inference-router/inference-router/internal/testkit"
)

// runCommand runs a command line and returns its exit code and output.
func runCommand(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// inFile writes a configuration and returns its path.
func inFile(t *testing.T, src string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	good, bad := inFile(t, testkit.Minimal), inFile(t, "tiers: 1\n")
	logging := inFile(t, testkit.Minimal+"log: {decisions: decisions.jsonl}\n")
	tests := []struct {
		name string
		args []string
		code int
		out  string // a part of it
		err  string
	}{
		{"help lists the commands", []string{"-h"}, 0, "check [-config F]", ""},
		{"the word help does too", []string{"help"}, 0, "usage: inference-router [COMMAND]", ""},
		{"a command's help is a result", []string{"check", "-h"}, 0, "usage: inference-router check [-config F]", ""},
		{"an unknown command is wrong usage", []string{"chekc"}, 2, "", `unknown command "chekc"; did you mean "check"?`},
		{"an unknown flag is wrong usage", []string{"check", "-nope"}, 2, "", "flag provided but not defined: -nope"},
		{"more traffic than the demo sends is wrong usage", []string{"demo", "-traffic", "1001"}, 2, "", "-traffic 1001: at most 1000 requests a second"},
		{"a word too many is wrong usage", []string{"version", "please"}, 2, "", `unexpected "please"`},
		{"version", []string{"version"}, 0, "inference-router ", ""},
		{"a good configuration", []string{"check", "-config", good}, 0, "simulated/small", ""},
		{"a bad one", []string{"check", "-config", bad}, 1, "", bad + ":1:8: tiers: want a mapping of names to values, got a number"},
		{"one with a decision log", []string{"check", "-config", logging}, 0, "is valid", ""},
		{"one that is not there", []string{"check", "-config", good + "x"}, 1, "", "no such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := runCommand(t, tt.args...)
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errOut, tt.err) {
				t.Errorf("%v: exit code %d, want %d\nstdout %q, want %q in it\nstderr %q, want %q in it", tt.args, code, tt.code, out, tt.out, errOut, tt.err)
			}
		})
	}
}

func TestVersionFromTheLinker(t *testing.T) {
	defer func(v, c string) { version, commit = v, c }(version, commit)
	version, commit = "v1.2.3", "abc"
	if _, out, _ := runCommand(t, "version"); !strings.HasPrefix(out, "inference-router v1.2.3\ncommit abc\ngo1") {
		t.Errorf("version printed %q", out)
	}
}

func mustParse(t *testing.T, src string, env testkit.Variables) *config.Config {
	t.Helper()
	c, err := config.Parse("config.yaml", []byte(src), env.Lookup)
	if err != nil {
		t.Fatalf("Parse: %v\nof\n%s", err, src)
	}
	return c
}
