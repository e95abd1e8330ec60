// The trace of one decision, from its record.
import { h, usd, ms, clock, pill } from "./text.js";
import { bar } from "./charts.js";

export function trace(r, tierClass) {
  const box = h("div", {});
  box.append(h("p", { class: "reason" }, r.reason || r.code || "refused before a decision"), facts(r));
  if (r.breakdown && r.score !== undefined) box.append(h("h3", {}, "Score " + r.score), score(r.breakdown));
  box.append(h("h3", {}, "What each strategy did"), h("ol", { class: "steps" }, ...(r.strategies || []).map((s) => h("li", {},
    h("div", {}, h("b", {}, s.name), " ", ...(s.allowed || []).map((t) => h("span", { class: "pill" }, h("i", { class: "dot " + tierClass(t) }), t))), h("div", { class: "dim" }, s.reason)))));
  box.append(h("h3", {}, "Attempts"), h("ol", { class: "steps" }, ...(r.attempts || []).map(attempt)));
  if (!(r.attempts || []).length) box.lastChild.replaceWith(h("p", { class: "dim" }, "No upstream was called."));
  return box;
}

function facts(r) {
  const t = r.tokens || {};
  const rows = [["time", clock(r.time)], ["model asked", r.model], ["answered by", [r.tier, r.upstream].filter(Boolean).join(" · ")], ["user", r.user],
    ["status", r.status + (r.code ? " " + r.code : "")], ["latency", ms(r.latency_ms) + (r.ttft_ms ? `, first token ${ms(r.ttft_ms)}` : "")],
    ["tokens", `${t.input || 0} in (${t.cached_input || 0} cached, ${t.cache_write || 0} written), ${t.output || 0} out`],
    ["cost", `${usd(r.cost_usd)}, reserved ${usd(r.reserved_usd)}`], ["tags", r.tags], ["decision", r.decision], ["request", r.request_id]];
  return h("dl", { class: "facts" }, ...rows.filter(([, v]) => v).flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, String(v))]));
}

function score(b) {
  const parts = Object.entries(b), most = Math.max(4, ...parts.map(([, v]) => Math.abs(v)));
  return h("div", { class: "score" }, ...parts.flatMap(([k, v]) => [h("span", {}, k), bar([["track", 1], [v < 0 ? "minus" : "fill", Math.abs(v) / most]], 0, `${k}: ${v}`), h("span", {}, (v > 0 ? "+" : "") + v)]));
}

function attempt(a) {
  const ok = a.outcome === "ok";
  return h("li", { class: ok ? "" : "bad" }, h("div", {}, h("b", {}, a.upstream), " ", pill(ok ? "answered" : a.outcome, ok ? "good" : "bad")),
    h("div", { class: "dim" }, [`${ms(a.latency_ms)}`, usd(a.cost_usd), a.cause || a.status && "status " + a.status].filter(Boolean).join(" · ")));
}
