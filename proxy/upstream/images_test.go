package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/translate"
)

func TestImagesComeFromPublicAddressesOnly(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.170.2", "0.0.0.0", "0.1.2.3",
		"100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255", "224.0.0.1",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001::1",
		"2002:7f00:1::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
	} {
		if err := checkAddress(net.JoinHostPort(address, "443")); err == nil {
			t.Errorf("%s may be connected to", address)
		}
	}
	for _, address := range []string{"93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "172.32.0.1", "100.128.0.1"} {
		if err := checkAddress(net.JoinHostPort(address, "443")); err != nil {
			t.Errorf("%s may not be connected to: %v", address, err)
		}
	}
	if checkAddress("fe80::1%eth0") == nil || checkAddress("nonsense") == nil {
		t.Error("what is no address may be connected to")
	}
}

func TestImageURLsAreJudgedBeforeAnythingIsSent(t *testing.T) {
	f := newImageFetcher([]string{"Example.com"})
	for link, ok := range map[string]bool{
		"https://example.com/a.png": true, "https://EXAMPLE.com:443/a": true,
		"http://example.com/a.png": false, "https://user:pw@example.com/a": false, "https://example.com:8443/a": false,
		"https://other.com/a": false, "https://example.com.evil.net/": false, "https:///a": false, "https://[::1": false,
		"ftp://example.com/a": false, "gopher://example.com": false, "https://example.com@169.254.169.254/": false,
	} {
		_, err := f.check(link)
		if (err == nil) != ok {
			t.Errorf("%s: got %v", link, err)
		}
	}
	if _, err := newImageFetcher(nil).check("https://anywhere.org/a"); err != nil {
		t.Errorf("without a list of hosts: %v", err)
	}
}

// imageServer serves over TLS under a public name; the fetcher is let at it by
// leading its connections there, past the check of addresses.
func imageServer(t *testing.T, handler http.HandlerFunc) *imageFetcher {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	f := newImageFetcher(nil)
	transport := f.client.Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
	return f
}

func TestImagesAreFetched(t *testing.T) {
	small := image.NewGray(image.Rect(0, 0, 3, 2))
	var asPNG, asJPEG, asGIF bytes.Buffer
	if err := errors.Join(png.Encode(&asPNG, small), jpeg.Encode(&asJPEG, small, nil), gif.Encode(&asGIF, small, nil)); err != nil {
		t.Fatal(err)
	}
	huge := bytes.Clone(asPNG.Bytes())
	binary.BigEndian.PutUint32(huge[16:], 9000) // the width in the header; no pixels are looked at
	webp := []byte("RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x01\x00\x00")
	wide := bytes.Clone(webp)
	wide[25] = 0xff
	for _, row := range []struct {
		name    string
		body    []byte
		refused bool
	}{
		{"png", asPNG.Bytes(), false}, {"jpeg", asJPEG.Bytes(), false}, {"gif", asGIF.Bytes(), false}, {"webp", webp, false},
		{"HTML", []byte("<html>secret</html>"), true}, {"nothing", nil, true},
		{"9000 pixels wide", fixCRC(huge), true}, {"webp too wide", wide, true},
		{"more than 5 MiB", append(bytes.Clone(asPNG.Bytes()), make([]byte, maxImageBytes)...), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var header http.Header
			f := imageServer(t, func(w http.ResponseWriter, r *http.Request) {
				header = r.Header
				_, _ = w.Write(row.body)
			})
			got, err := f.fetch(t.Context(), "https://example.com/a.png")
			var invalid *translate.InvalidError
			switch {
			case row.refused && (!errors.As(err, &invalid) || strings.Contains(err.Error(), "secret")):
				t.Errorf("got %v, want an InvalidError that shows nothing of the answer", err)
			case !row.refused && (err != nil || !bytes.Equal(got, row.body)):
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			for _, name := range []string{"Authorization", "Cookie"} {
				if header.Get(name) != "" {
					t.Errorf("sent %s", name)
				}
			}
		})
	}
}

// fixCRC makes a PNG's header chunk agree with its checksum again.
func fixCRC(b []byte) []byte {
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
	return b
}

func TestImagesAreNotFetchedThroughRedirectsOrErrors(t *testing.T) {
	asked := 0
	f := imageServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "https://example.com/target", http.StatusFound)
		case "/missing":
			http.NotFound(w, r)
		default:
			t.Errorf("the redirect was followed to %s", r.URL)
		}
	})
	for _, path := range []string{"/redirect", "/missing"} {
		_, err := f.fetch(t.Context(), "https://example.com"+path)
		var invalid *translate.InvalidError
		if !errors.As(err, &invalid) || strings.ContainsAny(err.Error(), "0123456789") {
			t.Errorf("%s: got %v, want an InvalidError without status or address", path, err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
}

func TestImagesAreNotFetchedFromWithin(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a loopback address was connected to") }))
	t.Cleanup(s.Close)
	f := newImageFetcher(nil)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.get(t.Context(), u); err == nil {
		t.Error("want an error")
	}
}

func TestFetchingEndsWithItsContext(t *testing.T) {
	cause := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	f := imageServer(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(cause)
		<-r.Context().Done()
	})
	if _, err := f.fetch(ctx, "https://example.com/a"); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause", err)
	}
}
