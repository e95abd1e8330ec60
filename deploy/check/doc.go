// Package check reads the files under deploy with the parsers of the tools
// they are written for: Compose, Kustomize, Kubernetes and BuildKit. It also
// holds the server's answers against the API document, with a JSON schema
// validator. It is a module of its own, so that the router depends on none of
// them.
package check
