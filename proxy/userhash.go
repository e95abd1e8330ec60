package proxy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// startKey hashes users' names where no key is configured: their hashes are
// comparable until the process ends.
var startKey = func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return key
}()

// hashUser is a name for logs that tells users apart without naming them: an
// HMAC, for names can be guessed. An empty key means the process' own.
func hashUser(key []byte, user string) string {
	if user == "" || user == anonymousUser {
		return user
	}
	if len(key) == 0 {
		key = startKey
	}
	m := hmac.New(sha256.New, key)
	m.Write([]byte(user))
	return "h:" + hex.EncodeToString(m.Sum(nil)[:6])
}
