# Thin names for the commands; each line is the whole of what it does.

.PHONY: build run demo check test race lint fuzz bench chaos soak conformance live image compose local deploy-check tidy house vulncheck ci

build:            ## the static binary, ./inference-router
	CGO_ENABLED=0 go build -trimpath -o inference-router .

run:              ## serves config.yaml
	go run . serve

demo:             ## simulated tiers, no keys
	go run . demo

check:            ## validates config.yaml
	go run . check

test:
	go test ./...

race:
	REQUIRE_ALL=1 go test -race -count=1 -timeout 20m ./...

lint:
	test -z "$$(gofmt -l .)" && go vet ./... && go tool staticcheck ./...

fuzz:             ## every fuzz target, FUZZTIME each (default 1m)
	.ci/fuzz $${FUZZTIME:-1m}

bench:            ## against a bare reverse proxy, on this machine
	go run ./bench

chaos:            ## replicas and Redis killed, frozen and cut off, with an audit of the money
	go run ./bench/chaos

soak:             ## the same for hours: SOAK=3h
	go run ./bench/chaos -duration $${SOAK:-3h}

conformance:      ## the official OpenAI clients for Python and Node
	.ci/conformance

live:             ## against a real AWS account: needs credentials, costs cents
	LIVE_BEDROCK=1 go test ./proxy/upstream -run Live -v -count=1

image:
	docker build -t inference-router .

compose:          ## Redis, three replicas and a balancer, in containers
	docker compose up --build

local:            ## the same as plain processes
	deploy/local.sh

deploy-check:     ## the manifests, by the tools' own parsers
	cd deploy/check && go test -count=1 ./...

house:            ## the figures of the code: length and tangle of functions, lines by package
	go test -count=1 -run House -v .

vulncheck:        ## known vulnerabilities in what is called
	go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

tidy:
	go mod tidy && cd deploy/check && go mod tidy

ci:
	.ci/run
