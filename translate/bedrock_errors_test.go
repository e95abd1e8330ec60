package translate

import (
	"errors"
	"strings"
	"testing"
)

func TestBedrockErrors(t *testing.T) {
	for _, row := range []struct {
		name, errorName string
		status          int
		body            string
		kind            Kind
		code            string
		finalStatus     int
		says            string // part of the message
	}{
		{"the name from the header, with its URL", "ThrottlingException:http://internal.amazon.com/coral/", 429, `{"message":"slow"}`, KindRateLimited, "rate_limit_exceeded", 429, "limiting"},
		{"the name from the body, with its namespace", "", 400, `{"__type":"com.amazon.coral.service#ThrottlingException","Message":"slow"}`, KindRateLimited, "rate_limit_exceeded", 400, ""},
		{"a camelCase name within a stream", "serviceUnavailableException", 200, `{"message":"later"}`, KindOverloaded, "upstream_overloaded", 200, ""},
		{"a validation within a stream is a 400", "validationException", 200, `{"message":"messages.3.content is bad"}`, KindInvalid, "", 400, "messages.3.content is bad"},
		{"Message with a capital", "ValidationException", 400, `{"Message":"bad"}`, KindInvalid, "", 400, "bad"},
		{"no body", "ValidationException", 400, ``, KindInvalid, "", 400, "refused"},
		{"no name, 429", "", 429, `nothing`, KindRateLimited, "rate_limit_exceeded", 429, ""},
		{"no name, 401", "", 401, ``, KindAuth, "upstream_auth_error", 401, ""},
		{"no name, 409", "", 409, ``, KindServer, "upstream_conflict", 409, ""},
		{"no name, 413", "", 413, `<html>`, KindInvalid, "request_too_large", 413, ""},
		{"no name, 415", "", 415, ``, KindInvalid, "", 400, ""},
		{"no name, 529", "", 529, ``, KindOverloaded, "upstream_overloaded", 529, ""},
		{"no name, 504", "", 504, ``, KindTimeout, "upstream_timeout", 504, ""},
		{"no name, 200", "", 200, ``, KindServer, "upstream_error", 200, ""},
		{"a model's own 400", "ModelErrorException", 424, `{"originalStatusCode":400,"originalMessage":"bad input"}`, KindInvalid, "", 400, "bad input"},
		{"a model's own 429", "ModelErrorException", 424, `{"originalStatusCode":429,"message":"busy"}`, KindRateLimited, "rate_limit_exceeded", 429, ""},
		{"a model's own 500", "ModelErrorException", 424, `{"originalStatusCode":500,"message":"oops"}`, KindServer, "model_error", 424, ""},
		{"too many input tokens", "ValidationException", 400, `{"message":"Too many input tokens. Max input tokens: 8192"}`, KindInvalid, "context_length_exceeded", 400, "8192"},
		{"maximum tokens exceeded", "ValidationException", 400, `{"message":"The maximum tokens you requested exceeds the model limit of 4096."}`, KindInvalid, "context_length_exceeded", 400, ""},
		{"prompt is too long", "ValidationException", 400, `{"message":"prompt is too long: 210000 tokens > 200000 maximum"}`, KindInvalid, "context_length_exceeded", 400, ""},
		{"not authorized", "NotAuthorized", 400, ``, KindAuth, "upstream_auth_error", 400, "credential"},
		{"serialization", "SerializationException", 400, ``, KindServer, "proxy_error", 400, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := BedrockError(row.errorName, row.status, []byte(row.body))
			if e.Kind != row.kind || e.Code != row.code || e.Status != row.finalStatus || !strings.Contains(e.Message, row.says) || e.Message == "" {
				t.Errorf("got %s, %q, %d, %q; want %s, %q, %d, %q", e.Kind, e.Code, e.Status, e.Message, row.kind, row.code, row.finalStatus, row.says)
			}
		})
	}
}

// TestTrap77NothingOfOurAccountIsTold: the message may name the client's
// fields, never what is ours; the log has it all.
func TestTrap77NothingOfOurAccountIsTold(t *testing.T) {
	const text = "messages.0: arn:aws:iam::123456789012:role/proxy via https://internal.amazon.com/x in account 123456789012 with AKIAIOSFODNN7EXAMPLE"
	for _, name := range []string{"ValidationException", "ResourceNotFoundException", "InternalServerException", "AccessDeniedException", "ThrottlingException"} {
		e := BedrockError(name, 400, []byte(`{"message":"`+text+`"}`))
		for _, secret := range []string{"arn:", "123456789012", "internal.amazon", "AKIA", "role/proxy"} {
			if strings.Contains(e.Message, secret) {
				t.Errorf("%s tells %q: %s", name, secret, e.Message)
			}
		}
		var fault *BedrockFault
		if !errors.As(e, &fault) || fault.Message != text {
			t.Errorf("%s: the log gets %v", name, e.Err)
		}
	}
	if e := BedrockError("ValidationException", 400, []byte(`{"message":"`+strings.Repeat("é", 5000)+`"}`)); len(e.Message) > maxMessage+10 || !strings.HasSuffix(e.Message, "é…") {
		t.Errorf("a long message is cut to %d bytes", len(e.Message))
	}
}

func TestRelaxChangesOnlyWhatTheModelNames(t *testing.T) {
	o := BedrockOptions{Capabilities: LookupCapabilities("bedrock", claude45)}
	for _, message := range []string{"messages.0 is bad", "temperature must be at most 1", ""} {
		if _, again := o.Relax(&UpstreamError{Kind: KindInvalid, Message: message}); again {
			t.Errorf("%q leads to another try", message)
		}
	}
	if _, again := o.Relax(&UpstreamError{Kind: KindServer, Message: "`temperature` is deprecated for this model."}); again {
		t.Error("a failure of theirs leads to another try")
	}
	o.Capabilities.Sampling = "none"
	if _, again := o.Relax(&UpstreamError{Kind: KindInvalid, Message: "`temperature` is deprecated for this model."}); again {
		t.Error("what was not sent leads to another try")
	}
}
