package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/internal/testkit"
)

// keep writes a secret's file and returns its path.
func keep(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretsComeFromFiles(t *testing.T) {
	path := keep(t, "sk-file\r\n")
	c := mustParse(t, "tiers:\n  fast:\n    - {provider: openai, model: gpt-4o, api_key_file: "+path+"}\n"+
		"    - {provider: groq, model: llama-3.3-70b-versatile, api_key: '${file:"+path+"}', headers: {X-Team: 'team ${file:"+path+"}'}}\n"+
		"identity:\n  mode: keys\n  keys:\n    - {name: a, key: '${file:"+path+"}'}\n", testkit.Variables{})
	first, second := c.Tiers[0].Upstreams[0], c.Tiers[0].Upstreams[1]
	if first.APIKey.Reveal() != "sk-file" || second.APIKey.Reveal() != "sk-file" || second.Headers["X-Team"].Reveal() != "team sk-file" ||
		c.Identity.Keys[0].Key.Reveal() != "sk-file" {
		t.Errorf("keys %q, %q, %q", first.APIKey.Reveal(), second.APIKey.Reveal(), c.Identity.Keys[0].Key.Reveal())
	}
	if problems := c.Check(testkit.Variables{}.Lookup); len(problems) > 0 { // as a reload checks again
		t.Error(problems)
	}
	if err := os.WriteFile(path, []byte("sk-next"), 0o600); err != nil {
		t.Fatal(err)
	}
	if problems := c.Check(testkit.Variables{}.Lookup); len(problems) > 0 || c.Tiers[0].Upstreams[0].APIKey.Reveal() != "sk-next" {
		t.Errorf("after a change: %q, %v", c.Tiers[0].Upstreams[0].APIKey.Reveal(), problems)
	}
}

func TestBadSecretFilesAreNamedAndNeverShown(t *testing.T) {
	const canary = "sk-canary-9d1"
	missing := filepath.Join(t.TempDir(), "none")
	for name, c := range map[string]struct{ line, want string }{
		"missing":     {"api_key_file: " + missing, missing + " cannot be read: no such file or directory"},
		"a directory": {"api_key_file: " + filepath.Dir(missing), "is not a file"},
		"empty":       {"api_key_file: " + keep(t, "\n"), "is empty"},
		"two lines":   {"api_key_file: " + keep(t, canary+"\n"+canary+"\n"), "has a character that no HTTP header may have"},
		"both":        {"api_key: " + canary + ", api_key_file: " + keep(t, canary), "api_key is there, too"},
		"in place":    {"api_key: '${file:" + missing + "}'", missing + " cannot be read"},
		"large":       {"api_key_file: " + keep(t, strings.Repeat("x", 1<<17)), "a secret has at most"},
	} {
		_, err := Parse("config.yaml", []byte("tiers:\n  fast:\n    - {provider: openai, model: gpt-4o, "+c.line+"}\n"), testkit.Variables{}.Lookup)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "config.yaml:3:") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%s shows the secret: %v", name, err)
		}
	}
}

func TestAnonymousDefaultsByMode(t *testing.T) {
	modes := map[string]string{
		"sidecar":       "",
		"trusted_proxy": "  trusted_cidrs: [10.0.0.0/8]\n",
		"signed":        "  signing_keys: [{id: a, secret: s}]\n",
		"keys":          "  keys: [{name: a, key: k}]\n",
	}
	want := map[string]string{"sidecar": "allow", "trusted_proxy": "reject", "signed": "reject", "keys": "allow"}
	for mode, rest := range modes {
		c := mustParse(t, testkit.Minimal+"identity:\n  mode: "+mode+"\n"+rest, testkit.Variables{})
		if c.Identity.Anonymous != want[mode] {
			t.Errorf("%s: anonymous is %s", mode, c.Identity.Anonymous)
		}
	}
	open := "server: {listen: '0.0.0.0:8080'}\nidentity:\n  mode: trusted_proxy\n  trusted_cidrs: [10.0.0.0/8]\n"
	if c := mustParse(t, testkit.Minimal+open+"  anonymous: allow\n", testkit.Variables{}); len(c.Exposed()) != 1 {
		t.Errorf("an exposed listener: %v", c.Exposed())
	}
	if c := mustParse(t, testkit.Minimal+open, testkit.Variables{}); len(c.Exposed()) != 0 {
		t.Errorf("one that asks for a user: %v", c.Exposed())
	}
}
