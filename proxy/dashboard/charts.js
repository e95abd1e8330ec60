// Charts in inline SVG. They are drawn anew with each state; the tip under the
// pointer stays.
import { h, usd, clock } from "./text.js";

const NS = "http://www.w3.org/2000/svg";
function svg(tag, attributes, ...children) {
  const el = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  el.append(...children);
  return el;
}

// nice is the smallest of 1, 2, 5 times a power of ten that is at least v.
function nice(v) {
  if (!(v > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 2.5, 5, 10].map((f) => f * p).find((f) => f >= v * 0.999999);
}

// frame draws grid, scale and times, and returns where things go.
function frame(box, series, top, write) {
  const width = box.clientWidth || 300, height = box.clientHeight || 200;
  const max = nice(top), label = [0, max / 2, max].map(write);
  const left = 10 + 6.6 * Math.max(...label.map((l) => l.length)), bottom = 20, n = series.failed.length;
  const x = (i) => left + (width - left - 4) * i / n, y = (v) => 8 + (height - 8 - bottom) * (1 - v / max);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  [0, max / 2, max].forEach((v, i) => root.append(svg("line", { class: "grid", x1: left, x2: width - 4, y1: y(v), y2: y(v) }), svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, label[i])));
  const start = Date.parse(series.start);
  for (const part of [0, .5, 1]) {
    const text = new Date(start + part * n * series.step_ms).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(series.step_ms < 60000 ? { second: "2-digit" } : {}) });
    root.append(svg("text", { x: x(part * n), y: height - 4, "text-anchor": ["start", "middle", "end"][part * 2] }, text));
  }
  return { root, x, y, n, width, height };
}

// stackedBars draws one bar a step, its parts from the least capable tier up.
export function stackedBars(box, series, parts) {
  const heights = series.failed.map((_, i) => parts.reduce((sum, p) => sum + (p.values[i] || 0), 0));
  const f = frame(box, series, Math.max(...heights, 4), (v) => (v % 1 ? v.toFixed(1) : v.toLocaleString("en")));
  const w = Math.max(1, f.x(1) - f.x(0) - 2);
  for (let i = 0; i < f.n; i++) {
    let sum = 0;
    for (const p of parts) {
      const v = p.values[i] || 0;
      if (v) f.root.append(svg("rect", { class: p.kind, x: f.x(i) + 1, y: f.y(sum + v), width: w, height: Math.max(.5, f.y(sum) - f.y(sum + v)) }));
      sum += v;
    }
  }
  if (!heights.some(Boolean)) f.root.append(svg("text", { class: "empty", x: f.width / 2, y: f.height / 2 }, "No request in this range yet"));
  f.root.setAttribute("aria-label", "Requests over time: " + parts.map((p) => `${p.name} ${p.values.reduce((a, b) => a + b, 0)}`).join(", "));
  finish(box, f, series, (i) => parts.map((p) => [p.kind, p.name, p.values[i] || 0]));
}

// lines draws running sums: the first list as the figure, the others dashed.
export function lines(box, series, lists) {
  const sums = lists.map((l) => { let sum = 0; return l.values.map((v) => (sum += v)); });
  const f = frame(box, series, Math.max(...sums.map((s) => s[s.length - 1] || 0), 1e-6), usd);
  const path = (s) => s.map((v, i) => `${i ? "L" : "M"}${f.x(i + .5).toFixed(1)} ${f.y(v).toFixed(1)}`).join("");
  f.root.append(svg("path", { class: "under", d: `${path(sums[0])}L${f.x(f.n - .5)} ${f.y(0)}L${f.x(.5)} ${f.y(0)}Z` }));
  for (let i = lists.length - 1; i > 0; i--) f.root.append(svg("path", { class: "baseline k-" + lists[i].key, d: path(sums[i]) }));
  f.root.append(svg("path", { class: "actual", d: path(sums[0]) }));
  f.root.setAttribute("aria-label", "Cost in the range: " + lists.map((l) => `${l.name} ${usd(l.total)}`).join(", "));
  finish(box, f, series, (i) => lists.map((l, k) => ["line k-" + l.key, l.name, usd(sums[k][i])]));
}

function finish(box, f, series, rows) {
  const old = box.querySelector("svg");
  if (old) old.replaceWith(f.root); else box.append(f.root);
  box.tipFor = (px) => {
    const i = Math.floor((px - f.x(0)) / (f.x(1) - f.x(0)));
    return i < 0 || i >= f.n ? null : { at: Date.parse(series.start) + i * series.step_ms, rows: rows(i), x: f.x(i) };
  };
  if (!box.hasTip) { box.hasTip = true; box.addEventListener("pointermove", (e) => showTip(box, e)); box.addEventListener("pointerleave", () => box.querySelector(".tip")?.remove()); }
}

function showTip(box, e) {
  const found = box.tipFor(e.clientX - box.getBoundingClientRect().left);
  box.querySelector(".tip")?.remove();
  if (!found) return;
  const tip = h("div", { class: "tip" }, h("b", {}, clock(found.at)), ...found.rows.map(([kind, name, v]) => h("p", {}, h("span", {}, h("i", { class: "dot " + kind }), name), h("span", {}, String(v)))));
  box.append(tip);
  const right = found.x > box.clientWidth / 2;
  tip.style[right ? "right" : "left"] = (right ? box.clientWidth - found.x + 12 : found.x + 22) + "px";
}

// bar draws parts from 0 to 1 over one another, and a mark.
export function bar(parts, mark, label) {
  const root = svg("svg", { viewBox: "0 0 1000 16", preserveAspectRatio: "none", role: "img", "aria-label": label });
  for (const [kind, share] of parts) root.append(svg("rect", { class: kind, x: 0, y: 0, height: 16, width: 1000 * Math.min(1, Math.max(0, share || 0)) }));
  if (mark) root.append(svg("line", { class: "sla", x1: 1000 * mark, x2: 1000 * mark, y1: 0, y2: 16, "vector-effect": "non-scaling-stroke" }));
  return root;
}
