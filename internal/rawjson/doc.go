// Package rawjson reads and writes JSON as text: it builds no tree, loses no
// digit of a number and keeps the bytes it does not touch. Scanner walks over
// JSON and checks it on the way, Writer appends it, AppendString quotes.
//
// It exists because the proxy's hot path changes a few members of large
// requests, and because schemas and tool arguments must keep their numbers and
// the order of their members.
package rawjson
