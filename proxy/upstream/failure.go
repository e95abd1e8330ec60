package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// sendError tells what went wrong before an answer's headers came. written
// says whether the request had been sent in full. Messages name no host or
// address: those may be private.
func sendError(err error, written bool) *translate.UpstreamError {
	e := &translate.UpstreamError{Kind: translate.KindConnect, Code: "upstream_unavailable", Err: err,
		Message: "The upstream cannot be reached."}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case isTLS(err):
		e.Code, e.Message = "upstream_tls_error", "No trusted TLS connection to the upstream can be made."
		if written { // TLS 1.3 lets a client speak before the server is content
			e.Billed = translate.BilledUnknown
		}
	case written:
		return receiveError(err)
	case errors.As(err, &dns):
		e.Code, e.Message = "upstream_dns_error", "The upstream's name cannot be resolved."
		if dns.IsTimeout {
			connectTimeout(e)
		}
	case isTimeout(err):
		connectTimeout(e)
	case errors.As(err, &op) && op.Op == "dial":
	case isReset(err):
		e.Code, e.Message = "upstream_reset", "The upstream closed the connection before it had the request."
	}
	return e
}

func connectTimeout(e *translate.UpstreamError) {
	e.Kind, e.Code, e.Message = translate.KindTimeout, "upstream_connect_timeout", "The upstream did not accept a connection in time."
}

// receiveError tells what went wrong between a request that was sent in full
// and the first of its answer that could be read.
func receiveError(err error) *translate.UpstreamError {
	switch {
	case isTimeout(err):
		return &translate.UpstreamError{Kind: translate.KindTimeout, Code: "upstream_timeout", Err: err,
			Message: "The upstream did not answer in time.", Billed: translate.BilledUnknown}
	case isReset(err):
		return &translate.UpstreamError{Kind: translate.KindUnknownState, Code: "upstream_reset", Err: err,
			Message: "The upstream closed the connection without an answer.", Billed: translate.BilledUnknown}
	}
	return badResponse("The upstream's answer is not valid HTTP.", err)
}

// wholeError tells why a whole answer could not be read.
func wholeError(err error) *translate.UpstreamError {
	switch {
	case errors.Is(err, errTooLong):
		e := badResponse("The upstream's answer is too long.", err)
		e.Code = "upstream_too_large"
		return e
	case isReset(err), isTimeout(err):
		e := badResponse("The upstream's answer was cut short.", err)
		e.Code = "upstream_truncated"
		return e
	}
	return badResponse("The upstream's answer cannot be read.", err)
}

// streamError tells why a stream broke: before its first event it is as good
// as no answer.
func streamError(err error, begun bool) *translate.UpstreamError {
	if !begun {
		return receiveError(err)
	}
	return &translate.UpstreamError{Kind: translate.KindInterrupted, Code: "stream_interrupted", Err: err,
		Message: "The upstream's answer ended before it was complete.", Billed: translate.BilledPartly}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

func isReset(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, syscall.ETIMEDOUT} {
		if errors.Is(err, e) {
			return true
		}
	}
	// net/http keeps the types of these to itself.
	for _, s := range []string{"server closed idle connection", "http2:", "stream error:", "GOAWAY"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	var (
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	if errors.As(err, &verify) || errors.As(err, &record) || errors.As(err, &alert) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) {
		return true
	}
	s := err.Error()
	return strings.Contains(s, "tls: ") || strings.Contains(s, "server gave HTTP response to HTTPS client")
}

// seconds reads a wait of a plain number of seconds.
func seconds(s string) (time.Duration, bool) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) {
		return 0, false
	}
	return time.Duration(min(v, 1e6) * float64(time.Second)), true
}
