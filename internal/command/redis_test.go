package command

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/internal/config"
	"github.com/inference-router/inference-router/internal/redisclient"
	"github.com/inference-router/inference-router/internal/testkit"
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
	file := inFile(t, testkit.Minimal+local+"redis: {url: '"+startRedis(t)+"'}\nbudgets: [{scope: user, usd: 1, on_exhausted: reject}]\n")
	one, two := startServe(t, file), startServe(t, file)
	resp := ask(t, one.url, `{"model":"fast","max_tokens":1,"user":"ann","messages":[{"role":"user","content":"hi"}]}`)
	if resp.StatusCode != 200 {
		t.Fatalf("answer %d", resp.StatusCode)
	}
	awaitBody(t, two.url+"/budgets?user=ann", `"spent_usd":0\.\d+,"reserved_usd":0,`)
	if _, body := get(t, two.url+"/readyz"); !strings.Contains(body, `"store":"up"`) {
		t.Errorf("readyz = %s", body)
	}
}

// A Redis as careful people run it: TLS only, a certificate wanted from clients,
// and a user that may do what the README says and nothing else.
func TestRedisWithTLSAndAUserWithFewRights(t *testing.T) {
	binary, err := exec.LookPath("redis-server")
	if err != nil && os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatal("redis-server is not installed, and REQUIRE_ALL=1")
	} else if err != nil {
		t.Skip("redis-server is not installed")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rights := regexp.MustCompile(`(?m)^ACL SETUSER router .*$`).FindString(string(readme))
	dir := t.TempDir()
	t.Chdir(dir)
	ca := newAuthority(t, dir)
	ca.issue(t, "redis")
	ca.issue(t, "router")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	server := exec.Command(binary, "--port", "0", "--tls-port", port, "--bind", "127.0.0.1", "--save", "",
		"--tls-ca-cert-file", "ca.pem", "--tls-cert-file", "redis.pem", "--tls-key-file", "redis-key.pem")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	files := "ca_file: ca.pem, cert_file: router.pem, key_file: router-key.pem"
	secure, err := (&config.Redis{CAFile: "ca.pem", CertFile: "router.pem", KeyFile: "router-key.pem"}).TLS()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := redisclient.New(redisclient.Config{URL: "rediss://127.0.0.1:" + port, TLS: secure})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	for deadline := time.Now().Add(10 * time.Second); admin.Ping(t.Context()).Err() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(admin.Ping(t.Context()).Err())
		}
	}
	var words []any
	for _, word := range strings.Fields(rights) {
		words = append(words, word)
	}
	if err := admin.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%q: %v", rights, err)
	}

	conf := testkit.Minimal + local + "budgets: [{scope: user, usd: 1, on_exhausted: reject}]\nstrategy: [{latency: {sla_ms: 5000, preferred_tier: fast, fallback_tier: powerful}}]\n"
	url := "rediss://router:password@127.0.0.1:" + port
	file := inFile(t, conf+"redis: {url: '"+url+"', "+files+"}\n")
	one, two := startServe(t, file), startServe(t, file)
	if resp := ask(t, one.url, `{"model":"fast","max_tokens":1,"user":"ann","messages":[{"role":"user","content":"hi"}]}`); resp.StatusCode != 200 {
		t.Fatalf("answer %d", resp.StatusCode)
	}
	awaitBody(t, two.url+"/budgets?user=ann", `"spent_usd":0\.\d+,"reserved_usd":0,`)
	awaitBody(t, two.url+"/tiers", `"fast":{.*"samples":1`)
	stranger := startServe(t, inFile(t, conf+"redis: {url: '"+url+"', on_loss: closed}\n"))
	if _, body := get(t, stranger.url+"/readyz"); !strings.Contains(body, `"store":"lost"`) {
		t.Errorf("readyz = %s, want a Redis with an unknown certificate to be lost", body)
	}
	for _, r := range []*running{one, two} {
		if log := r.log.String(); strings.Contains(log, `"level":"WARN"`) {
			t.Errorf("log:\n%s", log)
		}
	}
	denied, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range denied {
		if text := fmt.Sprint(entry); !strings.Contains(text, "config") { // only looked at, to warn
			t.Errorf("denied: %s", text)
		}
	}
}

// awaitBody asks until the answer matches: replicas hear of one another behind
// their answers.
func awaitBody(t *testing.T, url, pattern string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, body := get(t, url)
		if regexp.MustCompile(pattern).MatchString(body) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s says %s, want %s", url, body, pattern)
		}
	}
}

// authority issues certificates into files.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir}
	a.issue(t, "ca")
	return a
}

// issue writes name.pem and name-key.pem, for 127.0.0.1. The first is the
// authority's own.
func (a *authority) issue(t *testing.T, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: a.cert == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if a.cert == nil {
		a.cert, a.key = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServeWithoutItsRedis(t *testing.T) {
	t.Chdir(t.TempDir())
	missing := "unix://" + filepath.Join(t.TempDir(), "nothing.sock")
	r := startServe(t, inFile(t, testkit.Minimal+local+"redis: {url: '"+missing+"', on_loss: open}\n"))
	if code, body := get(t, r.url+"/readyz"); code != 200 || !strings.Contains(body, `"store":"lost"`) {
		t.Errorf("readyz = %d %s, want it ready and the store lost", code, body)
	}
}

func TestABadRedisAddressIsNotRepeated(t *testing.T) {
	for _, address := range []string{"http://:canary@localhost", "redis://:canary@local host", "redis://:canary@localhost?bad=1", "redis://:a@b/canary@127.0.0.1:6399/0"} {
		_, err := config.Parse("config.yaml", []byte(testkit.Minimal+"redis: {url: '"+address+"'}\n"), testkit.Variables{}.Lookup)
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "config.yaml:6:14: redis.url: not a Redis address") {
			t.Errorf("%s: error %v, want one with its place and without the password", address, err)
		}
	}
}
