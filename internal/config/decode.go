package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// place is where something stands in the file, from 1.
type place struct {
	line, column int
	source       string // as written, where variables were replaced in it
}

// decoder fills Go values from a YAML tree, notes where each stands, and goes
// on after a problem, so that all of them are told at once. Struct fields are
// named by their `yaml` tag; a `oneof` tag lists what a string may be.
type decoder struct {
	file     string
	lookup   LookupFunc
	anchors  map[string]ast.Node
	left     int              // nodes that may still be visited
	at       map[string]place // by dotted key
	problems Problems
}

// Bounds on what a file may ask of us: an alias may be used often, and one
// inside another multiplies.
const (
	maxConfigBytes = 1 << 20
	maxConfigNodes = 100_000
	maxConfigDepth = 64
	maxProblems    = 50 // more are not read
)

// textDecoder is a scalar with a syntax of its own. The error says what would
// be right, and does not repeat what was written.
type textDecoder interface{ decodeText(text string) error }

// nodeDecoder is a value whose shape is not one Go type's: a list or a mapping.
type nodeDecoder interface {
	decodeNode(d *decoder, key string, n ast.Node, depth int)
}

// defaulter is a value whose zero is not its default.
type defaulter interface{ setDefaults() }

// decodeYAML fills target from the file's bytes. It returns where each key
// stands, and every problem of syntax, name and type.
func decodeYAML(file string, src []byte, lookup LookupFunc, target any) (map[string]place, Problems) {
	d := &decoder{file: file, lookup: lookup, left: maxConfigNodes, anchors: map[string]ast.Node{}, at: map[string]place{}}
	if body := d.parse(src); body != nil {
		d.value("", body, reflect.ValueOf(target).Elem(), 0)
	}
	return d.at, d.problems.sorted()
}

// parse returns the one document's body, or nil after telling why not.
func (d *decoder) parse(src []byte) (body ast.Node) {
	defer func() {
		if recover() != nil { // the YAML library is given arbitrary bytes
			body = nil
			d.problemAt(place{}, "", "not readable as YAML")
		}
	}()
	if len(src) > maxConfigBytes {
		d.problemAt(place{}, "", "larger than 1 MiB")
		return nil
	}
	src = bytes.TrimPrefix(src, []byte("\xef\xbb\xbf")) // the byte order mark that some editors write
	tree, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err, src)
		return nil
	}
	for _, doc := range tree.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			d.problemAt(placeOf(doc.Body), "", "a second document; one file holds one configuration")
		default:
			body = doc.Body
		}
	}
	if body == nil {
		d.problemAt(place{}, "", "empty: at least one tier is needed")
		return nil
	}
	d.findAnchors(body, 0)
	return body
}

// syntax tells a YAML error, with a word on the usual cause: an unquoted
// ${NAME} between braces, where } belongs to YAML.
func (d *decoder) syntax(err error, src []byte) {
	at, message := place{}, err.Error()
	var e yaml.Error
	if errors.As(err, &e) {
		message = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			at = place{line: t.Position.Line, column: t.Position.Column}
		}
	}
	if lines := strings.Split(string(src), "\n"); at.line > 0 && at.line <= len(lines) && strings.Contains(lines[at.line-1], "${") {
		message += `; inside {...} and [...] a variable needs quotes: "${NAME}"`
	}
	d.problemAt(at, "", "YAML: "+message)
}

func (d *decoder) findAnchors(n ast.Node, depth int) {
	if n == nil || depth > maxConfigDepth {
		return
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		if d.anchors[name] != nil {
			d.problemAt(placeOf(n), "", fmt.Sprintf("the anchor &%s stands twice", name))
		}
		d.anchors[name] = n.Value
		d.findAnchors(n.Value, depth+1)
	case ast.MapNode:
		for pairs := n.MapRange(); pairs.Next(); {
			d.findAnchors(pairs.Value(), depth+1)
		}
	case *ast.SequenceNode:
		for _, item := range n.Values {
			d.findAnchors(item, depth+1)
		}
	}
}

// problem tells what is wrong at the node n, which is the value of key.
func (d *decoder) problem(n ast.Node, key, format string, args ...any) {
	d.problemAt(placeOf(n), key, fmt.Sprintf(format, args...))
}

func (d *decoder) problemAt(at place, key, message string) {
	if len(d.problems) >= maxProblems {
		return
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: at.line, Column: at.column, Key: key, Message: message})
}

// placeOf is where a node begins. A mapping's own token is its first colon, so
// its first key tells better.
func placeOf(n ast.Node) place {
	var t *token.Token
	switch n := n.(type) {
	case nil:
		return place{}
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return placeOf(n.Values[0].Key)
		}
		t = n.GetToken()
	case *ast.MappingValueNode:
		return placeOf(n.Key)
	case *ast.MappingKeyNode:
		return placeOf(n.Value)
	default:
		t = n.GetToken()
	}
	if t == nil || t.Position == nil {
		return place{}
	}
	return place{line: t.Position.Line, column: max(1, t.Position.Column)}
}

// resolve follows anchors and aliases to the value itself. It returns nil
// after telling a problem.
func (d *decoder) resolve(key string, n ast.Node, depth int) ast.Node {
	for {
		if d.left--; d.left < 0 || depth > maxConfigDepth {
			if d.left >= -1 || depth > maxConfigDepth {
				d.problem(n, key, "nested too deeply, or too much of it")
			}
			return nil
		}
		switch v := n.(type) {
		case nil:
			return nil
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			if d.anchors[name] == nil {
				d.problem(n, key, "the alias *%s has no anchor &%s", name, name)
				return nil
			}
			n, depth = d.anchors[name], depth+1
		case *ast.TagNode:
			d.problem(n, key, "YAML tags such as %s are not used here", v.GetToken().Value)
			return nil
		default:
			return n
		}
	}
}

// value decodes n into v, which may be any value of the configuration.
func (d *decoder) value(key string, n ast.Node, v reflect.Value, depth int) {
	at := placeOf(n)
	if n = d.resolve(key, n, depth); n == nil {
		return
	}
	d.at[key] = at
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if own, ok := v.Addr().Interface().(defaulter); ok {
		own.setDefaults()
	}
	if own, ok := v.Addr().Interface().(nodeDecoder); ok {
		own.decodeNode(d, key, n, depth)
		return
	}
	if own, ok := v.Addr().Interface().(textDecoder); ok {
		d.text(key, n, own)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fields(key, n, v, depth)
	case reflect.Map:
		d.entries(key, n, v, depth)
	case reflect.Slice:
		d.list(key, n, v, depth)
	case reflect.Array:
		d.array(key, n, v, depth)
	default:
		d.basic(key, n, v)
	}
}

// decode is value for nodeDecoders, which have a pointer to fill.
func (d *decoder) decode(key string, n ast.Node, target any, depth int) {
	d.value(key, n, reflect.ValueOf(target).Elem(), depth+1)
}

// pair is one entry of a mapping.
type pair struct {
	name  string
	key   ast.Node
	value ast.Node
}

// pairs returns a mapping's entries in order, each name once. `<<: *anchor`
// brings in what the mapping does not name itself.
func (d *decoder) pairs(key string, n ast.Node, depth int) []pair {
	if _, empty := n.(*ast.NullNode); empty {
		return nil
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		d.problem(n, key, "want a mapping of names to values, got %s", describeNode(n))
		return nil
	}
	var all, merged []pair
	seen := map[string]place{}
	for it := m.MapRange(); it.Next(); {
		if it.Key().IsMergeKey() {
			merged = append(merged, d.merge(key, it.Value(), depth)...)
			continue
		}
		keyNode := ast.Node(it.Key())
		if k, ok := keyNode.(*ast.MappingKeyNode); ok {
			keyNode = k.Value
		}
		if keyNode == nil {
			d.problem(n, key, "a mapping without a key")
			continue
		}
		name := keyNode.GetToken().Value
		if first, twice := seen[name]; twice {
			d.problem(keyNode, join(key, name), "duplicate key; the first is in line %d", first.line)
			continue
		}
		seen[name] = placeOf(keyNode)
		all = append(all, pair{name, keyNode, it.Value()})
	}
	for _, p := range merged {
		if _, named := seen[p.name]; !named {
			seen[p.name] = placeOf(p.key)
			all = append(all, p)
		}
	}
	return all
}

func (d *decoder) merge(key string, n ast.Node, depth int) []pair {
	n = d.resolve(key, n, depth+1)
	if n == nil {
		return nil
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return d.pairs(key, n, depth+1)
	}
	var all []pair
	for _, item := range list.Values {
		if item = d.resolve(key, item, depth+1); item != nil {
			all = append(all, d.pairs(key, item, depth+1)...)
		}
	}
	return all
}

func (d *decoder) fields(key string, n ast.Node, v reflect.Value, depth int) {
	names := fieldNames(v.Type())
	for _, p := range d.pairs(key, n, depth) {
		i := slices.Index(names, p.name)
		if i < 0 || p.name == "" {
			d.problem(p.key, join(key, p.name), "unknown key%s", Suggest(p.name, nonEmpty(names)))
			continue
		}
		told := len(d.problems)
		d.value(join(key, p.name), p.value, v.Field(i), depth+1)
		if choices := v.Type().Field(i).Tag.Get("oneof"); choices != "" && len(d.problems) == told {
			d.oneOf(join(key, p.name), p.value, v.Field(i).String(), strings.Split(choices, ","))
		}
	}
}

// fieldNames are the yaml names by field index, "" for fields that have none.
func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("yaml")
	}
	return names
}

func nonEmpty(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
}

// oneOf checks a word.
func (d *decoder) oneOf(key string, n ast.Node, got string, choices []string) {
	if !slices.Contains(choices, got) {
		written := cmp.Or(d.at[key].source, got)
		d.problem(n, key, "%q is none of %s%s", written, strings.Join(choices, ", "), didYouMean(written, choices))
	}
}

// didYouMean is Suggest without the list of what is known.
func didYouMean(got string, candidates []string) string {
	if s := Suggest(got, candidates); strings.HasPrefix(s, "; did you mean") {
		return s
	}
	return ""
}

func (d *decoder) entries(key string, n ast.Node, v reflect.Value, depth int) {
	m := reflect.MakeMap(v.Type())
	for _, p := range d.pairs(key, n, depth) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(join(key, p.name), p.value, item, depth+1)
		m.SetMapIndex(reflect.ValueOf(p.name).Convert(v.Type().Key()), item)
	}
	v.Set(m)
}

// items returns a list's values, nil after telling that it is none.
func (d *decoder) items(key string, n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		return n.Values
	}
	d.problem(n, key, "want a list, got %s", describeNode(n))
	return nil
}

func (d *decoder) list(key string, n ast.Node, v reflect.Value, depth int) {
	nodes := d.items(key, n)
	v.Set(reflect.MakeSlice(v.Type(), len(nodes), len(nodes)))
	for i, item := range nodes {
		d.value(index(key, i), item, v.Index(i), depth+1)
	}
}

func (d *decoder) array(key string, n ast.Node, v reflect.Value, depth int) {
	nodes := d.items(key, n)
	if len(nodes) != v.Len() {
		d.problem(n, key, "want a list of %d values", v.Len())
		return
	}
	for i, item := range nodes {
		d.value(index(key, i), item, v.Index(i), depth+1)
	}
}

// scalar is one value's text, with variables replaced. typed says that YAML
// itself gives it a type other than string; a value with variables has none.
type scalar struct {
	text     string
	typed    bool
	replaced bool
}

// scalarOf reads a scalar. ok is false after telling a problem.
func (d *decoder) scalarOf(key string, n ast.Node, want string) (s scalar, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		s.text = n.Value
	case *ast.LiteralNode:
		s.text = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return scalar{text: n.GetToken().Value, typed: true}, true
	default:
		d.problem(n, key, "want %s, got %s", want, describeNode(n))
		return s, false
	}
	text, err := expand(s.text, d.lookup)
	if err != nil {
		d.problem(n, key, "%v", err)
		return s, false
	}
	if s.replaced = strings.Contains(s.text, "${"); s.replaced {
		at := d.at[key]
		at.source = s.text
		d.at[key] = at
	}
	s.text = text
	return s, true
}

func (d *decoder) text(key string, n ast.Node, v textDecoder) {
	s, ok := d.scalarOf(key, n, "a value")
	if !ok {
		return
	}
	if err := v.decodeText(s.text); err != nil {
		d.problem(n, key, "%v", err)
	}
}

var (
	wholeNumber   = regexp.MustCompile(`^-?[0-9]{1,18}$`)
	decimalNumber = regexp.MustCompile(`^-?[0-9]{1,18}(\.[0-9]+)?$`)
)

// basic decodes strings, booleans and numbers. What was written is not
// repeated: it may have come from a variable, and be a secret.
func (d *decoder) basic(key string, n ast.Node, v reflect.Value) {
	want := map[reflect.Kind]string{
		reflect.String: "a string", reflect.Bool: "true or false",
		reflect.Int: "a whole number", reflect.Int64: "a whole number", reflect.Float64: "a number",
	}[v.Kind()]
	s, ok := d.scalarOf(key, n, want)
	if !ok {
		return
	}
	if v.Kind() == reflect.String {
		if s.typed {
			d.problem(n, key, "want a string, got %s; put it in quotes", describeNode(n))
			return
		}
		v.SetString(s.text)
		return
	}
	if !s.typed && !s.replaced {
		d.problem(n, key, "want %s, got a string", want)
		return
	}
	switch kind := v.Kind(); {
	case kind == reflect.Bool && (s.text == "true" || s.text == "false"):
		v.SetBool(s.text == "true")
	case (kind == reflect.Int || kind == reflect.Int64) && wholeNumber.MatchString(s.text):
		i, _ := strconv.ParseInt(s.text, 10, 64) // 18 digits fit
		v.SetInt(i)
	case kind == reflect.Float64 && decimalNumber.MatchString(s.text):
		f, _ := strconv.ParseFloat(s.text, 64) // the pattern parses
		v.SetFloat(f)
	default:
		d.problem(n, key, "want %s", want)
	}
}

// describeNode names a node's kind for a message.
func describeNode(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "a boolean"
	case *ast.StringNode, *ast.LiteralNode:
		return "a string"
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	}
	return "something else"
}

// join adds a name to a dotted key.
func join(key, name string) string {
	if strings.ContainsAny(name, ". []\"") || name == "" {
		name = strconv.Quote(name)
	}
	if key == "" {
		return name
	}
	return key + "." + name
}

// index adds a list's index to a dotted key.
func index(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }
