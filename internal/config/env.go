package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/joho/godotenv"
)

// LookupFunc finds an environment variable, as os.LookupEnv does.
type LookupFunc func(name string) (string, bool)

// Dotenv puts a .env file's variables into the process' environment, where the
// AWS SDK and OpenTelemetry look for theirs too. Variables that were there
// before win. It remembers which ones it set, so that reading the file again
// brings its changes. The zero value is ready.
type Dotenv struct {
	own map[string]bool
}

// Load reads the file. One that does not exist is fine.
func (e *Dotenv) Load(path string) error {
	values, err := godotenv.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		// The parser's own message quotes the line, which may hold a key.
		var onPath *fs.PathError
		if errors.As(err, &onPath) {
			return fmt.Errorf("read %s: %w", path, onPath.Err)
		}
		return fmt.Errorf("read %s: not a list of NAME=value lines", path)
	}
	if e.own == nil {
		e.own = make(map[string]bool)
	}
	for name, value := range values {
		if _, there := os.LookupEnv(name); there && !e.own[name] {
			continue
		}
		e.own[name] = true
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%s: set %s: %w", path, name, err)
		}
	}
	return nil
}

// mostSecret is the size of the largest file that is taken for a secret.
const mostSecret = 64 << 10

// secretFromFile reads a secret that is kept in a file of its own, as Docker and
// Kubernetes mount them. Line breaks at its end are not part of it. Errors never
// show what the file holds.
func secretFromFile(path string) (string, error) {
	info, err := os.Stat(path)
	var onPath *fs.PathError
	switch {
	case errors.As(err, &onPath):
		return "", fmt.Errorf("%s cannot be read: %w", path, onPath.Err)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file", path)
	case info.Size() > mostSecret:
		return "", fmt.Errorf("%s has %d bytes; a secret has at most %d", path, info.Size(), mostSecret)
	}
	b, err := os.ReadFile(path)
	if errors.As(err, &onPath) {
		return "", fmt.Errorf("%s cannot be read: %w", path, onPath.Err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// expand replaces ${NAME}, ${NAME:-default} and ${file:/path} in one scalar of the
// configuration. The default counts when the variable is unset or empty, as in
// a shell; a plain ${NAME} must be set, though it may be empty. `$${` stands
// for a literal `${`, and every other dollar for itself. What comes out of a
// variable is not looked at again, so no value can refer to another.
func expand(text string, lookup LookupFunc) (string, error) {
	var out strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			out.WriteString(text)
			return out.String(), nil
		}
		if i > 0 && text[i-1] == '$' {
			out.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		out.WriteString(text[:i])
		inner, rest, closed := strings.Cut(text[i+2:], "}")
		if !closed {
			return "", errors.New(`"${" without its "}"; write "$${" for a literal one`)
		}
		value, err := variable(inner, lookup)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		text = rest
	}
}

// variable is the value of what stands between ${ and }.
func variable(inner string, lookup LookupFunc) (string, error) {
	if path, ok := strings.CutPrefix(inner, "file:"); ok {
		return secretFromFile(path)
	}
	name, fallback, hasDefault := strings.Cut(inner, ":-")
	if !isVariableName(name) {
		return "", fmt.Errorf("${%s} is not a variable; write ${NAME}, ${NAME:-default} or ${file:/path}", inner)
	}
	value, set := lookup(name)
	switch {
	case hasDefault && value == "":
		return fallback, nil
	case !set && !hasDefault:
		return "", fmt.Errorf("environment variable %s is not set; set it, put it into .env, or write ${%s:-default}", name, name)
	}
	return value, nil
}

func isVariableName(s string) bool {
	for i, r := range s {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
