// Package check reads the files under deploy with the parsers of the tools
// they are written for: Compose, Kustomize, Kubernetes and BuildKit. It is a
// module of its own, so that the router depends on none of them.
package check
