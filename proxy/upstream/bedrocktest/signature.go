package bedrocktest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// checkAuthorization returns why a request is not authorized; "" when it is.
// The signature is computed anew from the definition of Signature Version 4,
// not by the SDK that made it.
func checkAuthorization(r *http.Request, body []byte, now time.Time) string {
	auth := r.Header.Get("Authorization")
	if token, ok := strings.CutPrefix(auth, "Bearer "); ok {
		if token != BearerToken {
			return "wrong bearer token"
		}
		return ""
	}
	rest, ok := strings.CutPrefix(auth, "AWS4-HMAC-SHA256 ")
	if !ok {
		return "not signed"
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	date := r.Header.Get("X-Amz-Date")
	signedAt, err := time.Parse("20060102T150405Z", date)
	if err != nil {
		return "no date"
	}
	if now.Sub(signedAt).Abs() > 5*time.Minute {
		return "Signature expired: " + date + " is now earlier than it may be"
	}
	scope := date[:8] + "/" + Region + "/bedrock/aws4_request"
	if want := AccessKey + "/" + scope; fields["Credential"] != want {
		return fmt.Sprintf("credential %s, not %s", fields["Credential"], want)
	}
	signed := strings.Split(fields["SignedHeaders"], ";")
	host := slices.Contains(signed, "host") || slices.Contains(signed, ":authority") // HTTP/2's word for it
	if !host || !slices.Contains(signed, "x-amz-date") {
		return "host and x-amz-date are not signed, only " + fields["SignedHeaders"]
	}
	key := []byte("AWS4" + SecretKey)
	for _, part := range []string{date[:8], Region, "bedrock", "aws4_request"} {
		key = sum(key, part)
	}
	request := sha256.Sum256([]byte(canonicalRequest(r, signed, body)))
	text := "AWS4-HMAC-SHA256\n" + date + "\n" + scope + "\n" + hex.EncodeToString(request[:])
	if want := hex.EncodeToString(sum(key, text)); fields["Signature"] != want {
		return "the signature does not match"
	}
	return ""
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonicalRequest is what is signed. The path is escaped twice, as for every
// service but S3.
func canonicalRequest(r *http.Request, signed []string, body []byte) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n")
	for i, segment := range strings.Split(r.URL.EscapedPath(), "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(strings.ReplaceAll(url.QueryEscape(segment), "+", "%20"))
	}
	b.WriteString("\n" + r.URL.Query().Encode() + "\n")
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host", ":authority":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	hash := sha256.Sum256(body)
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + hex.EncodeToString(hash[:]))
	return b.String()
}
