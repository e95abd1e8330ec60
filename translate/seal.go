package translate

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// Seal encrypts what a client has to give back to us but is not to read or
// change: a provider's signed reasoning, a stored answer. Safe for concurrent
// use.
type Seal struct{ box cipher.AEAD }

// sealMagic begins everything sealed; in base64, too, it is the same for all.
const (
	sealMagic   = "irseal"
	sealPrefix  = "aXJzZWFs"
	sealVersion = 1
)

// NewSeal makes a Seal of a secret of any length. Replicas that share the
// secret can read one another's.
func NewSeal(secret []byte) (*Seal, error) {
	if len(secret) < 16 {
		return nil, errors.New("a sealing key has at least 16 bytes")
	}
	key := sha256.Sum256(append([]byte("inference-router seal v1\x00"), secret...))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	box, err := cipher.NewGCM(block)
	return &Seal{box}, err
}

// Close seals data for a purpose, such as the family of models that can read
// it, in base64.
func (s *Seal) Close(purpose string, data []byte) string {
	if len(purpose) > 255 {
		purpose = purpose[:255]
	}
	head := append([]byte(sealMagic), sealVersion, byte(len(purpose)))
	head = append(head, purpose...)
	nonce := make([]byte, s.box.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	out := append(append([]byte{}, head...), nonce...)
	return base64.StdEncoding.EncodeToString(s.box.Seal(out, nonce, data, head))
}

// Open returns what was sealed for the purpose; false for anything else, be it
// foreign, changed, or sealed with another key.
func (s *Seal) Open(purpose, sealed string) ([]byte, bool) {
	if s == nil || !IsSealed(sealed) {
		return nil, false
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	head := len(sealMagic) + 2 + len(purpose)
	if err != nil || len(raw) < head+s.box.NonceSize() || raw[len(sealMagic)] != sealVersion ||
		int(raw[len(sealMagic)+1]) != len(purpose) || string(raw[len(sealMagic)+2:head]) != purpose {
		return nil, false
	}
	nonce := raw[head : head+s.box.NonceSize()]
	data, err := s.box.Open(nil, nonce, raw[head+len(nonce):], raw[:head])
	return data, err == nil
}

// IsSealed reports whether text claims to come from a Seal of some key.
func IsSealed(text string) bool { return strings.HasPrefix(text, sealPrefix) }

// ReasoningFamily names the models that can read one another's signed
// reasoning: Claude's signatures hold at every provider.
func ReasoningFamily(provider, model string) string {
	if strings.Contains(strings.ToLower(model), "claude") {
		return "claude"
	}
	return provider
}
