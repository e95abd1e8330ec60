// Command balancer is a round-robin load balancer for deploy/local.sh, where
// haproxy is not installed. It does what deploy/compose/haproxy.cfg says:
// replicas that are not ready are left out, answers are not buffered, and the
// operator's pages get the operator's key.
package main

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// replica is one server behind the balancer.
type replica struct {
	name  string
	url   *url.URL
	ready atomic.Bool
}

// operatorPages get the operator's key: they are reached from this machine only.
var operatorPages = []string{"/dashboard", "/metrics", "/budgets", "/stats/reset"}

func main() {
	var replicas []*replica
	for i := 1; os.Getenv(fmt.Sprintf("REPLICA_%d", i)) != ""; i++ {
		r := &replica{name: fmt.Sprintf("replica-%d", i), url: &url.URL{Scheme: "http", Host: os.Getenv(fmt.Sprintf("REPLICA_%d", i))}}
		replicas = append(replicas, r)
		go r.watch()
	}
	var next atomic.Uint64
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for range replicas {
			if r := replicas[next.Add(1)%uint64(len(replicas))]; r.ready.Load() {
				r.proxy(transport).ServeHTTP(w, req)
				return
			}
		}
		http.Error(w, "no replica is ready", http.StatusServiceUnavailable)
	})
	log.Fatal(http.ListenAndServe(os.Getenv("BALANCER_LISTEN"), handler))
}

func (r *replica) proxy(transport http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = r.url.Scheme, r.url.Host
			p.Out.Host = p.In.Host
			if slices.Contains(operatorPages, p.In.URL.Path) {
				p.Out.Header.Set("Authorization", "Bearer "+os.Getenv("ROUTER_ADMIN_KEY"))
			}
		},
		ModifyResponse: func(res *http.Response) error {
			res.Header.Set("X-Served-By", r.name)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			r.ready.Store(false)
			w.WriteHeader(http.StatusBadGateway)
		},
	}
}

// watch asks the replica five times a second whether it is ready.
func (r *replica) watch() {
	client := http.Client{Timeout: time.Second}
	for {
		res, err := client.Get(r.url.JoinPath("/readyz").String())
		r.ready.Store(err == nil && res.StatusCode == http.StatusOK)
		if err == nil {
			res.Body.Close()
		}
		time.Sleep(200 * time.Millisecond)
	}
}
