package main

import (
	"cmp"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// function is one function of the program proper, in the figures that tell
// readable code from other code: its length in lines, and its cyclomatic
// complexity, 1 + the branches in it.
type function struct {
	file, name        string
	lines, cyclomatic int
}

// Bounds of the house: the longest function, the length that 99 of 100 keep
// to, and how tangled one may be.
const (
	maxLines      = 60
	maxLinesP99   = 45
	maxCyclomatic = 20
)

// TestHouseFunctionsAreShort holds the bounds; with -v it prints the figures
// (make house).
func TestHouseFunctionsAreShort(t *testing.T) {
	var all []function
	rooms := map[string]int{} // lines by package
	sources(t, func(file string, tree *ast.File, set *token.FileSet) {
		rooms[path.Dir(file)] += set.Position(tree.FileEnd).Line
		for _, d := range tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && !strings.Contains(file, "test/") {
				lines := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1
				all = append(all, function{file, f.Name.Name, lines, cyclomatic(f)})
			}
		}
	})
	for _, f := range all {
		if f.lines > maxLines {
			t.Errorf("%s: %s has %d lines, more than %d", f.file, f.name, f.lines, maxLines)
		}
		if f.cyclomatic > maxCyclomatic {
			t.Errorf("%s: %s has a cyclomatic complexity of %d, more than %d", f.file, f.name, f.cyclomatic, maxCyclomatic)
		}
	}
	slices.SortFunc(all, func(a, b function) int { return cmp.Compare(a.lines, b.lines) })
	at := func(percent int) int { return all[len(all)*percent/100].lines }
	if at(99) > maxLinesP99 {
		t.Errorf("99 of 100 functions have up to %d lines, more than %d", at(99), maxLinesP99)
	}
	last := all[len(all)-1]
	t.Logf("%d functions; lines: median %d, p90 %d, p99 %d, most %d (%s in %s)", len(all), at(50), at(90), at(99), last.lines, last.name, last.file)
	top := slices.MaxFunc(all, func(a, b function) int { return cmp.Compare(a.cyclomatic, b.cyclomatic) })
	t.Logf("cyclomatic complexity: most %d (%s in %s)", top.cyclomatic, top.name, top.file)
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		t.Logf("%6d lines  %s", rooms[room], room)
	}
}

// cyclomatic counts the ways through a function, those of the functions within
// it included. The cases of a switch over constants, a table in code, count
// once.
func cyclomatic(f *ast.FuncDecl) int {
	n := 1
	ast.Inspect(f.Body, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt, *ast.CommClause:
			n++
		case *ast.SwitchStmt:
			if x.Tag != nil {
				n++
			} else {
				n += len(x.Body.List)
			}
		case *ast.TypeSwitchStmt:
			n++
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}
