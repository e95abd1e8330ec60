// Elements and the way figures are written.

// h makes an element; false and null children are left out.
export function h(tag, attributes, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) if (v !== undefined && v !== null) el.setAttribute(k, v);
  el.append(...children.filter((c) => c !== false && c !== null && c !== undefined && c !== ""));
  return el;
}

// usd writes dollars with three significant digits below one.
export function usd(v) {
  if (!v) return "$0";
  const sign = v < 0 ? "−$" : "$", a = Math.abs(v);
  if (a >= 1000) return sign + a.toLocaleString("en", { maximumFractionDigits: 0 });
  if (a >= 1) return sign + a.toFixed(2);
  return sign + a.toFixed(Math.min(9, Math.max(2, 2 - Math.floor(Math.log10(a))))).replace(/(\.\d\d.*?)0+$/, "$1");
}

// ms writes milliseconds; no line breaks between the number and its unit.
export function ms(v) {
  if (!v) return "0\u00a0ms";
  return v < 1000 ? (v < 10 ? v.toFixed(1) : Math.round(v)) + "\u00a0ms" : (v / 1000).toFixed(v < 10000 ? 2 : 1) + "\u00a0s";
}

export function clock(time) { return new Date(time).toLocaleTimeString("en-GB"); }

export function ago(at, now) {
  const s = Math.max(0, Math.round((now - Date.parse(at)) / 1000));
  return s < 90 ? s + " s" : s < 5400 ? Math.round(s / 60) + " min" : Math.round(s / 3600) + " h";
}

export function until(at, now) { return Math.max(0, Math.ceil((Date.parse(at) - now) / 1000)) + " s"; }

export function pill(text, kind) { return h("span", { class: "pill " + (kind || "") }, String(text)); }
