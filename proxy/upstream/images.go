package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // DecodeConfig reads the size of each
	_ "image/jpeg" // format that models take; pixels are
	_ "image/png"  // never decoded
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/inference-router/inference-router/translate"
)

const (
	maxImages      = 20      // of one request
	maxImageBytes  = 5 << 20 // of each
	maxImageSide   = 8000    // pixels
	imageTimeout   = 5 * time.Second
	imageConnect   = 2 * time.Second
	maxImageHeader = 16 << 10
)

// imageFetcher gets images that clients name by URL. The URLs are the
// client's, the network is ours: it connects to public addresses only, checked
// when the connection is made, follows no redirects, carries no credentials,
// and its errors say nothing of what it met.
type imageFetcher struct {
	hosts  []string // lower case; empty = any
	client *http.Client
}

func newImageFetcher(hosts []string) *imageFetcher {
	f := &imageFetcher{}
	for _, h := range hosts {
		f.hosts = append(f.hosts, strings.ToLower(h))
	}
	dialer := &net.Dialer{Timeout: imageConnect, Control: func(_, address string, _ syscall.RawConn) error {
		return checkAddress(address)
	}}
	f.client = &http.Client{
		Timeout: imageTimeout,
		Transport: &http.Transport{ // no Proxy: it would connect for us, unchecked
			DialContext: dialer.DialContext, TLSHandshakeTimeout: imageConnect,
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxImageHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("redirected") },
	}
	return f
}

// fetch returns the image at link.
func (f *imageFetcher) fetch(ctx context.Context, link string) ([]byte, error) {
	u, err := f.check(link)
	if err != nil {
		return nil, err
	}
	data, err := f.get(ctx, u)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, badImage("this image could not be fetched")
	}
	return data, checkImage(data)
}

func badImage(format string, args ...any) error {
	return &translate.InvalidError{Code: "invalid_image_url", Message: fmt.Sprintf(format, args...)}
}

// check judges a URL before anything is sent.
func (f *imageFetcher) check(link string) (*url.URL, error) {
	u, err := url.Parse(link)
	switch {
	case err != nil || u.Host == "":
		return nil, badImage("this is not a URL")
	case u.Scheme != "https":
		return nil, badImage("images are fetched over https only")
	case u.User != nil:
		return nil, badImage("a URL with a user is not fetched")
	case u.Port() != "" && u.Port() != "443":
		return nil, badImage("images are fetched from port 443 only")
	case len(f.hosts) > 0 && !slices.Contains(f.hosts, strings.ToLower(u.Hostname())):
		return nil, badImage("images are not fetched from this host")
	}
	return u, nil
}

func (f *imageFetcher) get(ctx context.Context, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "image/png, image/jpeg, image/gif, image/webp")
	req.Header.Set("User-Agent", "inference-router")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("no image")
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxImageBytes+1))
	if err == nil && len(data) > maxImageBytes {
		err = errors.New("too large")
	}
	return data, err
}

// checkImage wants one of the formats that models take, of a size they take.
func checkImage(data []byte) error {
	size, ok := webpSize(data)
	if !ok {
		config, _, err := image.DecodeConfig(bytes.NewReader(data))
		if err != nil {
			return badImage("this is neither png, jpeg, gif nor webp")
		}
		size = image.Pt(config.Width, config.Height)
	}
	if size.X > maxImageSide || size.Y > maxImageSide {
		return badImage("this image is larger than %d by %d", maxImageSide, maxImageSide)
	}
	return nil
}

// webpSize reads the size of a WebP image from its header.
func webpSize(b []byte) (image.Point, bool) {
	if len(b) < 30 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WEBP" {
		return image.Point{}, false
	}
	switch string(b[12:16]) {
	case "VP8 ":
		return image.Pt((int(b[26])|int(b[27])<<8)&0x3fff, (int(b[28])|int(b[29])<<8)&0x3fff), true
	case "VP8L":
		bits := uint32(b[21]) | uint32(b[22])<<8 | uint32(b[23])<<16 | uint32(b[24])<<24
		return image.Pt(int(bits&0x3fff)+1, int(bits>>14&0x3fff)+1), true
	case "VP8X":
		return image.Pt((int(b[24])|int(b[25])<<8|int(b[26])<<16)+1, (int(b[27])|int(b[28])<<8|int(b[29])<<16)+1), true
	}
	return image.Point{}, false
}

// notPublic are address ranges that net/netip does not name, in which
// something of ours may answer: carrier NAT, documentation, benchmarks, and
// the IPv6 forms that wrap an IPv4 address.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("fc00::/7"),
}

// checkAddress allows public unicast addresses only. It is asked with the
// address that is about to be connected to, after names have been resolved.
func checkAddress(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.New("not an address")
	}
	ip := to.Addr().WithZone("").Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() ||
		slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return errors.New("not a public address")
	}
	return nil
}
