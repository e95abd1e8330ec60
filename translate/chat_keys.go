package translate

import (
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// Claude refuses a tool whose schema has a property with a name other than
// 1 to 64 of the characters a-z, A-Z, 0-9, _, . and -. Such names get an alias
// on the way to the model and are put back in what it calls the tool with.

// fitKey reports whether a property may have that name.
func fitKey(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// aliasKeys gives the unfit names of properties in the tools aliases, and
// writes the schemas, and the calls of earlier turns, with them.
func (n *names) aliasKeys(c *chat, caps Capabilities) {
	if caps.Family != "claude" && caps.Family != "" {
		return
	}
	for _, t := range c.tools {
		n.collectKeys(gjson.Parse(t.schema), true)
	}
	if len(n.toProvider) == 0 {
		return
	}
	for i := range c.tools {
		var w rawjson.Writer
		n.writeAliased(&w, gjson.Parse(c.tools[i].schema), true)
		c.tools[i].schema = string(w)
	}
	for _, m := range c.messages {
		for i := range m.blocks {
			if b := &m.blocks[i]; b.kind == blockToolUse {
				r := keyRenamer{names: n.toProvider}
				b.input = string(r.end(r.add(nil, b.input)))
			}
		}
	}
}

func (n *names) collectKeys(v gjson.Result, isSchema bool) {
	v.ForEach(func(k, e gjson.Result) bool {
		named := isSchema && v.IsObject() && schemaMaps[k.Str]
		if named && k.Str == "properties" && e.IsObject() {
			e.ForEach(func(name, _ gjson.Result) bool {
				if !fitKey(name.Str) {
					n.aliasKey(name.Str)
				}
				return true
			})
		}
		if e.IsObject() || e.IsArray() {
			n.collectKeys(e, !named)
		}
		return true
	})
}

func (n *names) aliasKey(key string) {
	if n.toProvider == nil {
		n.toProvider, n.fromProvider = map[string]string{}, map[string]string{}
	}
	alias := sanitizeName(key, 55) + "_" + hash8(key)
	n.toProvider[key], n.fromProvider[alias] = alias, key
}

// writeAliased copies a schema, a map of schemas or a list with the aliases for
// names of properties and in lists of those required.
func (n *names) writeAliased(w *rawjson.Writer, v gjson.Result, isSchema bool) {
	switch {
	case v.IsArray():
		w.Array()
		v.ForEach(func(_, e gjson.Result) bool { n.writeAliased(w, e, isSchema); return true })
		w.EndArray()
		return
	case !v.IsObject():
		w.Raw(v.Raw)
		return
	}
	w.Object()
	v.ForEach(func(k, e gjson.Result) bool {
		w.RawKey(k.Raw)
		switch {
		case isSchema && k.Str == "properties" && e.IsObject():
			w.Object()
			e.ForEach(func(name, e gjson.Result) bool {
				if alias := n.toProvider[name.Str]; alias != "" {
					w.Key(alias)
				} else {
					w.RawKey(name.Raw)
				}
				n.writeAliased(w, e, true)
				return true
			})
			w.EndObject()
		case isSchema && k.Str == "required" && e.IsArray():
			w.Array()
			e.ForEach(func(_, name gjson.Result) bool {
				if alias := n.toProvider[name.Str]; alias != "" {
					w.String(alias)
				} else {
					w.Raw(name.Raw)
				}
				return true
			})
			w.EndArray()
		case isSchema && (k.Str == "enum" || k.Str == "const" || k.Str == "default" || k.Str == "examples"):
			w.Raw(e.Raw)
		default:
			n.writeAliased(w, e, !isSchema || !schemaMaps[k.Str])
		}
		return true
	})
	w.EndObject()
}

// keyRenamer renames the keys of objects in JSON that comes in pieces. It holds
// back a key until it is complete, and passes on everything else as it comes.
type keyRenamer struct {
	names map[string]string

	open    []byte // the objects and arrays that are open: '{' and '['
	isKey   bool   // the next string is a key
	inText  bool   // within a string
	escaped bool   // after a backslash
	key     []byte // what there is of a key, with its first quote
}

// add appends to dst what can be passed on of the next piece.
func (r *keyRenamer) add(dst []byte, piece string) []byte {
	for i := 0; i < len(piece); i++ {
		c := piece[i]
		if r.inText {
			dst = r.text(dst, c)
			continue
		}
		switch c {
		case '"':
			r.inText = true
			if r.isKey {
				r.key = append(r.key[:0], c)
				continue
			}
		case '{', '[':
			r.open = append(r.open, c)
			r.isKey = c == '{'
		case '}', ']':
			r.open = r.open[:max(len(r.open)-1, 0)]
			r.isKey = false
		case ',':
			r.isKey = len(r.open) > 0 && r.open[len(r.open)-1] == '{'
		}
		dst = append(dst, c)
	}
	return dst
}

// text takes in one byte within a string.
func (r *keyRenamer) text(dst []byte, c byte) []byte {
	closes := c == '"' && !r.escaped
	r.escaped = c == '\\' && !r.escaped
	r.inText = !closes
	if !r.isKey {
		return append(dst, c)
	}
	r.key = append(r.key, c)
	if !closes {
		return dst
	}
	r.isKey = false
	key := r.key
	r.key = r.key[len(r.key):]
	if name, ok := r.names[gjson.ParseBytes(key).Str]; ok {
		return rawjson.AppendString(dst, name)
	}
	return append(dst, key...)
}

// end appends what is held back: half a key, when the input was cut short.
func (r *keyRenamer) end(dst []byte) []byte {
	if r.isKey && r.inText {
		dst = append(dst, r.key...)
	}
	*r = keyRenamer{names: r.names}
	return dst
}
