package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/inference-router/inference-router"

// graph is who may import whom, within the module: main, the command line, and
// below it configuration and proxy, which stand on three leaves.
var graph = map[string][]string{
	"":                 {"internal/command"},
	"internal/command": {"internal/config", "internal/rawjson", "internal/measure", "proxy", "proxy/upstream", "routing", "budget", "budget/redisledger", "internal/redisclient", "translate"},
	"internal/config":  {"budget", "translate", "internal/rawjson", "internal/redisclient"},
	"proxy":            {"translate", "routing", "budget", "internal/live", "internal/rawjson", "internal/measure"},
	"internal/live":    {"budget"},
	"proxy/upstream":   {"translate", "internal/rawjson"},
	"translate":        {"internal/rawjson", "internal/measure"},
	"internal/measure": {},
	"internal/rawjson": {},
	"routing":          {},
	"budget":           {},

	"budget/redisledger":   {"budget", "internal/redisclient"},
	"internal/redisclient": {},

	// Test support.
	"budget/ledgertest":            {"budget"},
	"internal/testkit":             {},
	"proxy/conformance":            {"proxy/upstream/anthropictest", "proxy/upstream/bedrocktest"},
	"proxy/upstream/anthropictest": {},
	"proxy/upstream/bedrocktest":   {},
}

// vendors are libraries that one place alone speaks to.
var vendors = map[string][]string{
	"github.com/redis/go-redis":   {"budget/redisledger/", "routing/redis", "internal/redisclient/"},
	"github.com/aws/":             {"proxy/upstream/bedrock", "translate/bedrock"},
	"github.com/labstack/echo":    {"proxy/"},
	"github.com/goccy/go-yaml":    {"internal/config/"},
	"github.com/openai/openai-go": {},
	"github.com/prometheus/":      {"proxy/"},
	"github.com/swaggest/swgui":   {"proxy/docs.go"},
}

// sources calls f with each file of the program proper.
func sources(t *testing.T, f func(file string, tree *ast.File, set *token.FileSet)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != "." && (strings.HasPrefix(name, ".") || slices.Contains([]string{"bench", "examples", "deploy", "testdata", "node_modules", "prices", "bin"}, name)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(file), tree, set)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFormTheDrawnGraph(t *testing.T) {
	sources(t, func(file string, tree *ast.File, _ *token.FileSet) {
		from := path.Dir(file)
		if from == "." {
			from = ""
		}
		allowed, drawn := graph[from]
		if !drawn {
			t.Errorf("%s is in package %q, which is not drawn", file, from)
		}
		for _, i := range tree.Imports {
			to, _ := strconv.Unquote(i.Path.Value)
			if inner, ok := strings.CutPrefix(to, module+"/"); ok && !slices.Contains(allowed, inner) {
				t.Errorf("%s imports %s: that edge is not drawn", file, inner)
			}
			for vendor, homes := range vendors {
				home := func(h string) bool { return strings.HasPrefix(file, h) || strings.Contains(file, "test/") }
				if strings.HasPrefix(to, vendor) && !slices.ContainsFunc(homes, home) {
					t.Errorf("%s imports %s, which is spoken in %v only", file, to, homes)
				}
			}
		}
	})
}

func TestExportedNamesAreDocumented(t *testing.T) {
	sources(t, func(file string, tree *ast.File, set *token.FileSet) {
		for _, d := range tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				known := slices.Contains([]string{"Error", "String", "Unwrap"}, d.Name.Name) && d.Recv != nil
				if d.Name.IsExported() && d.Doc == nil && !known && exportedReceiver(d) {
					t.Errorf("%s: %s has no comment", file, d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(t, file, d)
			}
		}
	})
}

// exportedReceiver says whether a function, or the type it belongs to, can be
// seen from outside.
func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	kind := f.Recv.List[0].Type
	if p, ok := kind.(*ast.StarExpr); ok {
		kind = p.X
	}
	name, ok := kind.(*ast.Ident)
	return ok && name.IsExported()
}

func undocumented(t *testing.T, file string, d *ast.GenDecl) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
				t.Errorf("%s: type %s has no comment", file, s.Name.Name)
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					t.Errorf("%s: %s has no comment", file, n.Name)
				}
			}
		}
	}
}
