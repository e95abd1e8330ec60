package command

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-router/inference-router/internal/config"
)

// crowded serves h on loopback for so many connections at once.
func crowded(t *testing.T, limit int, h http.HandlerFunc) (address string, f *front) {
	t.Helper()
	f = newFront(slog.New(slog.DiscardHandler), limit)
	addr, err := f.add("127.0.0.1:0", h)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.serve() }()
	t.Cleanup(func() {
		f.close()
		<-served
	})
	return addr.String(), f
}

// visit asks for a path on a connection of its own.
func visit(t *testing.T, address, path string) error {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func TestClientsThatNeverReadKeepNobodyOut(t *testing.T) {
	large := make([]byte, 8<<20)
	address, f := crowded(t, 8, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/docs" {
			_, _ = w.Write(large)
		}
	})
	for _, request := range []string{"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HT", ""} {
		for range 24 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
		}
		if err := visit(t, address, "/livez"); err != nil {
			t.Errorf("after %q: %v", request, err)
		}
		f.all.mu.Lock()
		open := len(f.all.open)
		f.all.mu.Unlock()
		if open > 8 {
			t.Errorf("after %q: %d connections are open", request, open)
		}
	}
}

func TestARequestUnderWayIsNotCutToMakeRoom(t *testing.T) {
	started, finish := make(chan struct{}, 2), make(chan struct{})
	address, f := crowded(t, 2, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			started <- struct{}{}
			<-finish
		}
	})
	answers := make(chan error, 3)
	for range 2 {
		go func() { answers <- visit(t, address, "/slow") }()
		<-started
	}
	go func() { answers <- visit(t, address, "/third") }()
	for f.all.waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(finish)
	for range 3 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

func TestAnAnswerThatStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := newConnections(1, slog.New(slog.DiscardHandler)).add(near)
		began := time.Now()
		go func() { // takes a piece every 50 s, then stops
			for range 3 {
				time.Sleep(50 * time.Second)
				_, _ = io.ReadFull(far, make([]byte, writePiece))
			}
		}()
		n, err := c.Write(make([]byte, 8*writePiece))
		if took := time.Since(began); err == nil || n != 3*writePiece || took < 209*time.Second || took > 212*time.Second {
			t.Errorf("wrote %d bytes in %v: %v", n, took, err)
		}
	})
}

// failing cannot accept.
type failing struct{ net.Listener }

func (failing) Accept() (net.Conn, error) { return nil, fmt.Errorf("too many open files") }

func TestAcceptErrorsAreLoggedAtWarn(t *testing.T) {
	var log bytes.Buffer
	all := newConnections(1, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		if _, err := (listener{failing{}, all}).Accept(); err == nil {
			t.Fatal("no error")
		}
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "too many open files") {
		t.Errorf("log: %s", got)
	}
}

// certificate writes a new self-signed certificate and its key, which also is
// the authority that has signed it.
func certificate(t *testing.T, dir string, serial int64) (cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
	for name, content := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err = tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}

// serial connects by TLS and returns the serial number of the server's
// certificate.
func serial(address string, own ...tls.Certificate) (n int64, status int, err error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: own}, //nolint:gosec // the serial number is looked at
	}}
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+address+"/", nil)
	resp, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), resp.ProtoMajor, nil
}

func TestTLSCertificatesAreReplacedByAReload(t *testing.T) {
	dir := t.TempDir()
	conf := new(config.Config)
	conf.Server.TLS.CertFile, conf.Server.TLS.KeyFile, _ = certificate(t, dir, 1)
	f := newFront(slog.New(slog.DiscardHandler), 0)
	if err := f.certs.load(conf); err != nil {
		t.Fatal(err)
	}
	addr, err := f.add("127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.serve() }()
	defer func() { f.close(); <-served }()

	if n, major, err := serial(addr.String()); err != nil || n != 1 || major != 2 {
		t.Errorf("serial %d by HTTP/%d, %v", n, major, err)
	}
	if err := visit(t, addr.String(), "/"); err == nil {
		if resp, err := http.Get("http://" + addr.String()); err == nil && resp.StatusCode == http.StatusOK {
			t.Error("plain HTTP was served on the TLS listener")
		}
	}
	_, _, pair := certificate(t, dir, 2)
	if err := f.certs.load(conf); err != nil {
		t.Fatal(err)
	}
	if n, _, err := serial(addr.String()); err != nil || n != 2 {
		t.Errorf("after the reload: serial %d, %v", n, err)
	}
	conf.Server.TLS.ClientCAFile = conf.Server.TLS.CertFile
	if err := f.certs.load(conf); err != nil {
		t.Fatal(err)
	}
	if _, _, err := serial(addr.String()); err == nil {
		t.Error("a client without a certificate was served")
	}
	if _, _, err := serial(addr.String(), pair); err != nil {
		t.Errorf("a client with one: %v", err)
	}
	if err := os.WriteFile(conf.Server.TLS.CertFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.certs.load(conf); err == nil || !strings.Contains(err.Error(), "server.tls") {
		t.Errorf("a broken certificate: %v", err)
	}
	if _, _, err := serial(addr.String(), pair); err != nil {
		t.Errorf("the one before stays: %v", err)
	}
}

// waiting is how many listeners wait for room.
func (a *connections) waiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queued
}
