package translate

import (
	"fmt"
	"log/slog"
)

// Secret is a credential. However it is printed, logged or encoded, it shows
// as "[redacted]"; Reveal gives the text.
type Secret string

const redacted = "[redacted]"

// Reveal returns the credential itself.
func (s Secret) Reveal() string { return string(s) }

// String hides the credential.
func (s Secret) String() string { return redacted }

// Format hides the credential under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue hides the credential in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the credential in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
