package command

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// TestTheDashboardInABrowser opens the demo's dashboard, under its own traffic,
// in Chromium. It is skipped where there is none, but fails with REQUIRE_ALL=1.
func TestTheDashboardInABrowser(t *testing.T) {
	r := start(t, func(c console, told signals) error { return demo(t.Context(), c, "127.0.0.1:0", 1, 8, told) })
	page := openPage(t, r.waitFor(t, r.out, regexp.MustCompile(`dashboard +(\S+)`)))

	page.until(`document.querySelector(".live.on") && document.querySelector("#tiles b")`)
	first := page.text(`document.querySelector("#tiles b").textContent`)
	page.until(`document.querySelector("#tiles b").textContent !== ` + quoteJS(first))

	page.do(chromedp.Click("[data-decision]", chromedp.ByQuery))
	page.until(`document.querySelector("#trace[open] .steps")`)
	if trace := page.text(`document.querySelector("#trace").textContent`); !strings.Contains(trace, "What each strategy did") || !strings.Contains(trace, "complexity") {
		t.Errorf("the trace is %q", trace)
	}
	page.do(chromedp.Click("#trace [value=close]", chromedp.ByQuery))

	// Once small-1 is broken, the breaker takes it out and small-2 answers.
	page.do(chromedp.Click(`[data-up="simulated/small-1"] [data-control=break]`, chromedp.ByQuery))
	page.until(part("small-1", "cause") + `.includes("broken from the dashboard")`)
	page.until(part("small-1", "state") + `.includes("breaker open")`)
	before := page.text(answered("small-2"))
	page.until(answered("small-2") + " !== " + quoteJS(before))
	page.do(chromedp.Click(`[data-up="simulated/small-1"] [data-control=mend]`, chromedp.ByQuery))
	page.until(part("small-1", "state") + ` === "in use"`)

	for _, width := range []int64{360, 1300} {
		page.do(chromedp.EmulateViewport(width, 800))
		page.until(`document.documentElement.scrollWidth <= innerWidth`)
	}
	page.complaints()
}

// part is what a row of the upstreams' table says.
func part(upstream, name string) string {
	return `document.querySelector('[data-up="simulated/` + upstream + `"] [data-part=` + name + `]').textContent`
}

func answered(upstream string) string {
	return part(upstream, "cause") + `.match(/([\d,]+) answered/)[1]`
}

func quoteJS(s string) string { return "`" + s + "`" }

// browserPage is a page in Chromium, and what it did that it must not.
type browserPage struct {
	t   *testing.T
	ctx context.Context

	mu  sync.Mutex
	bad []string
}

func openPage(t *testing.T, address string) *browserPage {
	t.Helper()
	quiet := chromedp.WithErrorf(func(string, ...any) {}) // of events that chromedp does not know; errors are returned as well
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox,
		chromedp.WSURLReadTimeout(time.Minute), chromedp.WindowSize(1300, 900), chromedp.Flag("disable-dev-shm-usage", true))
	allocated, endBrowser := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(endBrowser)
	ctx, endPage := chromedp.NewContext(allocated, quiet)
	t.Cleanup(endPage)
	p := &browserPage{t: t, ctx: ctx}
	own, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	chromedp.ListenTarget(ctx, func(event any) { p.watch(own.Host, event) })
	// The first Run starts the browser, which lives as long as its context.
	if err := chromedp.Run(ctx, network.Enable(), cdplog.Enable(), runtime.Enable()); err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(address))
	return p
}

func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatal("REQUIRE_ALL=1, but there is no Chromium")
	}
	t.Skip("there is no Chromium")
	return ""
}

// watch notes errors and requests to others.
func (p *browserPage) watch(own string, event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.bad = append(p.bad, "exception: "+e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			p.bad = append(p.bad, "console: "+string(e.Type))
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.LevelError {
			p.bad = append(p.bad, "log: "+e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != own && u.Scheme != "data" {
			p.bad = append(p.bad, "request to "+e.Request.URL)
		}
	}
}

func (p *browserPage) complaints() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.bad {
		p.t.Error(b)
	}
}

// do acts on the page, within a minute.
func (p *browserPage) do(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *browserPage) text(expression string) string {
	p.t.Helper()
	var text string
	p.do(chromedp.Evaluate(expression, &text))
	return text
}

// until waits a minute for an expression to be true. chromedp.Poll would need
// eval, which the page's policy forbids.
func (p *browserPage) until(expression string) {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		var holds bool
		p.do(chromedp.Evaluate("Boolean("+expression+")", &holds))
		if holds {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("in a minute it did not become true that %s; tiers: %s", expression, p.text(`document.querySelector("#tiers").textContent`))
		}
	}
}
