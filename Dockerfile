# The image is one static binary and the CA certificates: no shell, no package
# manager, nothing to update but the binary.
#
#   docker build -t inference-router .
#   docker run -v ./config.yaml:/etc/inference-router/config.yaml:ro -p 127.0.0.1:8080:8080 inference-router

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=""
ARG COMMIT=""
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
    -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /out/inference-router .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/inference-router /usr/bin/inference-router
# config.yaml is looked for in the working directory.
WORKDIR /etc/inference-router
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/inference-router"]
CMD ["serve"]
