package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var updateDocs = flag.Bool("update", false, "rewrite docs/config.md")

const docFile = "../../docs/config.md"

// docHead is what stands above the tables.
const docHead = `# Every key of config.yaml

Made from the decoder's own types by ` + "`go test ./internal/config -run Doc -update`" + `; a test compares the two.
An unknown key, a wrong type or a duplicate is an error that names file, line, column and key.
` + "`${NAME}`, `${NAME:-default}` and `${file:/path}`" + ` are replaced in values after parsing.
Durations are written as 500ms, 30s or 1h30m; dollars as 10 or 0.25, exact to the nano-dollar.
A default in parentheses is what happens when the key is left out.
`

// TestConfigDocIsWhatTheDecoderReads compares docs/config.md with the types
// that the decoder fills, their comments and their defaults.
func TestConfigDocIsWhatTheDecoderReads(t *testing.T) {
	d := &configDoc{t: t, comments: fieldComments(t), seen: map[reflect.Type]string{}}
	var c Config
	c.setDefaults()
	d.section("", "config.yaml", reflect.ValueOf(c))
	want := docHead + d.out.String()
	if *updateDocs {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/config.md is not what the decoder reads; go test ./internal/config -run Doc -update rewrites it")
	}
}

// configDoc writes one table a section, and those of the sections within it
// after it.
type configDoc struct {
	t        *testing.T
	out      strings.Builder
	comments map[string]string       // by Type.Field
	seen     map[reflect.Type]string // where a type has its table
}

func (d *configDoc) section(path, title string, v reflect.Value) {
	t := v.Type()
	if first, again := d.seen[t]; again {
		fmt.Fprintf(&d.out, "\n## %s\n\nThe same keys as %s.\n", title, first)
		return
	}
	d.seen[t] = "`" + title + "`"
	fmt.Fprintf(&d.out, "\n## %s\n\n", title)
	if about := d.comments[t.Name()]; about != "" {
		fmt.Fprintf(&d.out, "%s\n\n", about)
	}
	fmt.Fprintln(&d.out, "| key | value | default | meaning |\n| --- | --- | --- | --- |")
	type inner struct {
		path string
		v    reflect.Value
	}
	var within []inner
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name, _, _ = strings.Cut(name, ","); name == "" {
			continue
		}
		meaning := d.comments[t.Name()+"."+f.Name]
		nested, suffix := nestedSection(f.Type)
		if nested != nil {
			if v := defaultsOf(nested, v.Field(i)); v.IsValid() {
				within = append(within, inner{join(path, name) + suffix, v})
			}
			if meaning == "" {
				meaning = d.comments[nested.Name()]
			}
		}
		if meaning == "" {
			d.t.Errorf("%s.%s has no comment to document %s with", t.Name(), f.Name, join(path, name))
		}
		fmt.Fprintf(&d.out, "| `%s` | %s | %s | %s |\n", name, kindOf(f), defaultText(v.Field(i), nested != nil), cell(meaning))
	}
	for _, s := range within {
		d.section(s.path, s.path, s.v)
	}
}

func cell(s string) string {
	s = strings.TrimSuffix(strings.ReplaceAll(s, "|", `\|`), ".")
	return strings.ReplaceAll(s, "*", `\*`)
}

// nestedSection is the struct that a field's own keys are of, and how a path
// into it is written.
func nestedSection(t reflect.Type) (reflect.Type, string) {
	suffix := ""
	for {
		switch t.Kind() {
		case reflect.Pointer:
			t = t.Elem()
		case reflect.Slice:
			if t.Name() == "Tiers" {
				suffix += ".NAME"
			} else {
				suffix += "[]"
			}
			t = t.Elem()
		case reflect.Map:
			t, suffix = t.Elem(), suffix+".NAME"
		case reflect.Struct:
			return t, suffix
		default:
			return nil, ""
		}
	}
}

// defaultsOf is a section with its defaults: as the one around it has them, or
// its own.
func defaultsOf(t reflect.Type, v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Struct {
		return v
	}
	p := reflect.New(t)
	if d, ok := p.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return p.Elem()
}

// kindOf says what a value is written as.
func kindOf(f reflect.StructField) string {
	if choices := f.Tag.Get("oneof"); choices != "" {
		return strings.ReplaceAll(choices, ",", ", ")
	}
	return typeText(f.Type)
}

func typeText(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[USD]():
		return "dollars"
	case reflect.TypeFor[JSONValue]():
		return "any value"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeText(t.Elem())
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Name() == "Tiers" {
			return "mapping of tiers by name"
		}
		return "list of " + plural(typeText(t.Elem()))
	case reflect.Map:
		return "mapping of names to " + plural(typeText(t.Elem()))
	case reflect.Struct:
		return "mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Float64:
		return "number"
	}
	return "text"
}

func plural(s string) string {
	if strings.HasSuffix(s, "s") || s == "text" {
		return s
	}
	return s + "s"
}

func defaultText(v reflect.Value, nested bool) string {
	if v.Kind() == reflect.Pointer && !v.IsNil() && !nested {
		v = v.Elem()
	}
	if v.IsZero() || nested {
		return ""
	}
	if v.Type() == reflect.TypeFor[Duration]() {
		return "`" + trimDuration(time.Duration(v.Int())) + "`"
	}
	return fmt.Sprintf("`%v`", v.Interface())
}

func trimDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// fieldComments are the comments of this package's types and fields, and of the
// capabilities that it shares with translate.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	set := token.NewFileSet()
	for _, dir := range []string{".", "../../translate"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			file, err := parser.ParseFile(set, dir+"/"+e.Name(), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool { noteComments(all, n); return true })
		}
	}
	return all
}

func noteComments(all map[string]string, n ast.Node) {
	decl, ok := n.(*ast.GenDecl)
	if !ok || decl.Tok != token.TYPE {
		return
	}
	for _, spec := range decl.Specs {
		s := spec.(*ast.TypeSpec)
		if doc := oneLine(decl.Doc); doc != "" && all[s.Name.Name] == "" {
			all[s.Name.Name] = doc
		}
		fields, ok := s.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range fields.Fields.List {
			text := oneLine(f.Doc)
			if text == "" {
				text = oneLine(f.Comment)
			}
			for _, name := range f.Names {
				if key := s.Name.Name + "." + name.Name; all[key] == "" {
					all[key] = text
				}
			}
		}
	}
}

func oneLine(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}
