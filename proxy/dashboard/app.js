// The dashboard: draws the state that the server sends once a second.
import { stackedBars, lines, bar } from "./charts.js";
import { h, usd, ms, ago, clock, pill, until } from "./text.js";
import { trace } from "./trace.js";
import { startPlayground } from "./play.js";

const $ = (id) => document.getElementById(id);
const baselines = [["strongest", "always the most capable"], ["random", "random, same shares"], ["cheapest", "always the cheapest"]];
let range = "5m", source = null, state = null, decisionsKey = "";
const tierClass = (name) => {
  const i = state.tiers.findIndex((t) => t.name === name);
  return i < 0 ? "cfail" : "c" + Math.min(i, 5);
};

function connect() {
  source?.close();
  source = new EventSource("dashboard/events?range=" + range);
  source.addEventListener("state", (e) => { state = JSON.parse(e.data); live("on", "live"); draw(); });
  source.onerror = () => live("off", "reconnecting");
}

function live(kind, text) {
  const el = $("live");
  if (el.className !== "live " + kind) { el.className = "live " + kind; el.lastElementChild.textContent = text; }
}

function draw() {
  $("version").textContent = state.version + " · " + state.strategy;
  drawTiles();
  drawCharts();
  drawTiers();
  drawBudgets();
  if (filters().toString() === "") drawDecisions(state.decisions);
}

function drawTiles() {
  const t = state.series.total, all = t.requests + t.failed;
  const saved = t.strongest - t.cost, share = t.strongest > 0 ? Math.round(100 * saved / t.strongest) : 0;
  const tile = (value, label, kind) => h("div", { class: "tile" + (kind ? " " + kind : "") }, h("b", {}, value), h("span", {}, label));
  $("tiles").replaceChildren(
    tile(all.toLocaleString("en"), "requests · " + state.in_flight + " in flight"),
    tile(usd(t.cost), "spent"),
    tile(usd(saved), `saved against always the most capable (${share}%)`, saved > 0 ? "good" : ""),
    tile(usd(t.random - t.cost), "saved against a random mix"),
    tile(all ? (100 * t.failed / all).toFixed(1) + "%" : "0%", "refused or failed"));
}

function drawCharts() {
  const s = state.series, names = state.tiers.map((t) => t.name);
  const bars = names.map((n) => ({ name: n, kind: tierClass(n), values: s.tiers[n] || [] }));
  if (s.total.failed > 0) bars.push({ name: "refused or failed", kind: "cfail", values: s.failed });
  const sum = (v) => v.reduce((a, b) => a + b, 0);
  $("legend-requests").replaceChildren(...bars.map((b) => h("li", {}, h("i", { class: b.kind }), `${b.name} ${sum(b.values).toLocaleString("en")}`)));
  stackedBars($("chart-requests"), s, bars);
  const list = [{ name: "routed", key: "cost", values: s.cost, total: s.total.cost }, ...baselines.map(([key, name]) => ({ name, key, values: s[key], total: s.total[key] }))];
  $("legend-cost").replaceChildren(...list.map((l) => h("li", {}, h("i", { class: "line k-" + l.key }), `${l.name} ${usd(l.total)}`)));
  lines($("chart-cost"), s, list);
}

// Tiers: the rows stay in place, so that buttons keep their focus.
let tiersKey = "";
function drawTiers() {
  const key = JSON.stringify(state.tiers.map((t) => [t.name, t.upstreams.map((u) => [u.name, u.control !== undefined])]));
  if (key !== tiersKey) { tiersKey = key; $("tiers").replaceChildren(...[...state.tiers].reverse().map(tierRow)); fillTierSelects(); }
  for (const t of state.tiers) updateTier(t);
}

function tierRow(t) {
  return h("div", { class: "tier", "data-tier": t.name },
    h("div", {}, h("div", { class: "tier-name" }, h("i", { class: tierClass(t.name) }), t.name, h("span", { class: "pill", "data-part": "health" })), h("div", { class: "lat", "data-part": "lat" })),
    h("div", {}, ...t.upstreams.map((u) => h("div", { class: "up", "data-up": u.name },
      h("span", { class: "name" }, u.name), h("span", { class: "pill", "data-part": "state" }), h("span", { class: "cause", "data-part": "cause" }),
      u.control !== undefined && h("div", { class: "controls", role: "group", "aria-label": "Simulate " + u.name }, ...["slow", "limit", "break", "mend"].map((c) => controlButton(u.name, c)))))));
}

function controlButton(upstream, control) {
  const b = h("button", { type: "button", class: "small", "data-control": control }, control);
  b.addEventListener("click", async () => {
    const r = await fetch("dashboard/simulate", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ upstream, control }) });
    if (!r.ok) live("off", "the control was refused: " + r.status);
  });
  return b;
}

function updateTier(t) {
  const row = document.querySelector(`[data-tier="${CSS.escape(t.name)}"]`);
  const health = row.querySelector("[data-part=health]"), l = t.latency;
  const over = t.sla_ms && l.p90_ms > t.sla_ms || t.ttft_sla_ms && l.ttft_p90_ms > t.ttft_sla_ms;
  health.textContent = !t.healthy ? "out" : over ? "over its SLA" : l.samples ? "within SLA" : "no answers yet";
  if (t.healthy && l.samples && !t.sla_ms) health.textContent = "in use";
  health.className = "pill " + (!t.healthy ? "bad" : over ? "warn" : l.samples ? "good" : "");
  row.querySelector("[data-part=lat]").replaceChildren(
    ...latency(t, "answer", [l.p50_ms, l.p90_ms, l.p99_ms], t.sla_ms, l.samples),
    ...latency(t, "first token", [l.ttft_p50_ms, l.ttft_p90_ms, l.ttft_p99_ms], t.ttft_sla_ms, l.ttft_samples));
  for (const u of t.upstreams) updateUpstream(row.querySelector(`[data-up="${CSS.escape(u.name)}"]`), u);
}

function latency(t, label, [p50, p90, p99], sla, n) {
  const text = n ? `p50 ${ms(p50)} · p90 ${ms(p90)} · p99 ${ms(p99)}${sla ? " · SLA " + ms(sla) : ""}` : "no samples";
  return [h("span", {}, label), bar([["track", 1]].concat(latencyBars(p50, p90, p99, sla, tierClass(t.name))), sla ? 1 / 1.5 : 0, `${t.name} ${label}: ${text}`), h("small", {}, text)];
}

function latencyBars(p50, p90, p99, sla, kind) {
  const full = sla ? sla * 1.5 : Math.max(p99 * 1.1, 1), over = sla && p90 > sla ? " over" : "";
  return [["p99 " + kind + over, p99 / full], ["p90 " + kind + over, p90 / full], [kind + over, p50 / full]];
}

const stateKind = { closed: "good", "half-open": "warn", limited: "warn", open: "bad", misconfigured: "bad" };
const stateText = { closed: "in use", "half-open": "being tried", limited: "rate limited", open: "breaker open", misconfigured: "misconfigured" };
function updateUpstream(row, u) {
  const p = row.querySelector("[data-part=state]");
  p.className = "pill " + (stateKind[u.state] || "");
  p.textContent = (stateText[u.state] || u.state) + (u.cool_until ? " · " + until(u.cool_until, state.time) : "");
  const f = u.last_failure, counts = `${u.model} · ${u.ok.toLocaleString("en")} answered, ${u.failed.toLocaleString("en")} failed`;
  row.querySelector("[data-part=cause]").textContent = f ? `${counts} · last failure ${ago(f.at, state.time)} ago: ${f.code}${f.message ? ": " + f.message : ""}` : counts;
  for (const b of row.querySelectorAll("[data-control]")) if (b.dataset.control !== "mend") b.setAttribute("aria-pressed", b.dataset.control === u.control);
}

function drawBudgets() {
  const wanted = $("budget-filter").value.trim();
  const list = state.budgets.filter((b) => !wanted || (b.user || b.key || b.scope).includes(wanted));
  const more = state.budget_count - state.budgets.length;
  $("budget-count").textContent = state.budget_count === 0 ? "none configured" : more > 0 ? `the fullest ${state.budgets.length} of ${state.budget_count.toLocaleString("en")}` : "";
  $("budgets").replaceChildren(...list.map(budgetRow));
}

function budgetRow(b) {
  const limit = Math.max(b.limit_usd, 1e-9), used = b.spent_usd / limit, held = b.reserved_usd / limit;
  const kind = used >= .95 ? " bad" : used >= .8 ? " warn" : "";
  const name = b.user ? "user " + b.user : b.key ? "key " + b.key : b.scope;
  const left = Math.max(0, (Date.parse(b.resets_at) - state.time) / 1000);
  return h("div", { class: "budget", "data-budget": b.scope + (b.user || b.key || "") },
    h("div", { class: "line" }, h("b", {}, name), h("span", {}, `${usd(b.spent_usd)} of ${usd(b.limit_usd)}`)),
    bar([["track", 1], ["reserved", used + held], ["spent" + kind, used]], 0, `${name}: ${Math.round(used * 100)}% spent, ${Math.round(held * 100)}% reserved`),
    h("div", { class: "line dim" }, h("span", {}, `reserved ${usd(b.reserved_usd)} · ${b.on_exhausted}`), h("span", {}, forecast(b, left))));
}

function forecast(b, left) {
  const reset = "resets in " + duration(left);
  if (b.spent_usd >= b.limit_usd) return "used up · " + reset;
  if (!b.usd_per_hour) return reset;
  const hours = (b.limit_usd - b.spent_usd) / b.usd_per_hour;
  return hours * 3600 < left ? `at ${usd(b.usd_per_hour)}/h used up in ${duration(hours * 3600)}` : `${usd(b.usd_per_hour)}/h · ${reset}`;
}

function duration(s) {
  if (s < 90) return Math.round(s) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  return s < 172800 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " days";
}

function filters() {
  const q = new URLSearchParams();
  for (const [k, v] of new FormData($("filters"))) if (v.trim()) q.set(k, v.trim());
  return q;
}

async function filterDecisions() {
  const q = filters();
  if (q.toString() === "") { if (state) drawDecisions(state.decisions); return; }
  const r = await fetch("dashboard/decisions?" + q);
  if (r.ok && filters().toString() === q.toString()) drawDecisions((await r.json()).decisions);
}

function drawDecisions(list) {
  const key = list.map((d) => d.id).join();
  if (key === decisionsKey) return;
  decisionsKey = key;
  const focused = document.activeElement?.dataset?.decision;
  const body = document.querySelector("#decisions tbody");
  body.replaceChildren(...(list.length ? list.map(decisionRow) : [h("tr", {}, h("td", { colspan: 8, class: "dim" }, "No decision yet."))]));
  if (focused) body.querySelector(`[data-decision="${CSS.escape(focused)}"]`)?.focus();
}

function decisionRow(d) {
  const row = h("tr", {},
    h("td", {}, h("button", { type: "button", "data-decision": d.id, "aria-label": "Trace of the decision at " + clock(d.time) }, clock(d.time))),
    h("td", {}, d.tier && h("span", { class: "dot " + tierClass(d.tier) }), d.tier || "none"), h("td", {}, d.upstream || ""),
    h("td", { class: "why" }, d.reason || d.code || ""), h("td", {}, d.user || ""),
    h("td", { class: "n" }, pill(d.status, d.status < 400 ? (d.fallback ? "warn" : "good") : d.status < 500 ? "warn" : "bad")),
    h("td", { class: "n" }, ms(d.latency_ms)), h("td", { class: "n" }, usd(d.cost_usd)));
  row.addEventListener("click", () => openTrace(d.id));
  return row;
}

async function openTrace(id) {
  const r = await fetch("dashboard/decisions/" + encodeURIComponent(id));
  const body = document.querySelector("#trace .trace-body");
  body.replaceChildren(r.ok ? trace(await r.json(), tierClass) : h("p", {}, "This decision is no longer in memory; the decision log has it."));
  $("trace").showModal();
}

function fillTierSelects() {
  const select = document.querySelector("#filters [name=tier]");
  select.replaceChildren(h("option", { value: "" }, "all tiers"), ...state.tiers.map((t) => h("option", {}, t.name)));
}

async function loadConfig() {
  const r = await fetch("dashboard/config");
  if (!r.ok) return;
  const c = await r.json();
  const row = (p) => h("tr", {}, h("td", {}, p.upstream), h("td", { class: "n" }, "$" + p.input), h("td", { class: "n" }, "$" + p.output), h("td", { class: "n" }, "$" + p.cached_input), h("td", { class: "n" }, "$" + p.cache_write), h("td", {}, p.source || "free"), h("td", { class: "n" }, p.age || ""));
  const head = ["Upstream", "Input", "Output", "Cached", "Cache write", "Source, per million tokens", "Age"].map((x, i) => h("th", { scope: "col", class: i > 0 && i < 5 || i === 6 ? "n" : "" }, x));
  document.querySelector("#prices .scroll").replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...c.prices.map(row))));
}

$("ranges").addEventListener("click", (e) => {
  if (!e.target.dataset.range) return;
  range = e.target.dataset.range;
  for (const b of $("ranges").children) b.setAttribute("aria-pressed", b === e.target);
  connect();
});
$("budget-filter").addEventListener("input", () => state && drawBudgets());
$("filters").addEventListener("input", filterDecisions);
$("filters").addEventListener("submit", (e) => e.preventDefault());
setInterval(() => filters().toString() && filterDecisions(), 2000);
$("prices").addEventListener("toggle", (e) => e.target.open && loadConfig());
startPlayground(() => state, tierClass);
connect();
