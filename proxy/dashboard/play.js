// The playground: one prompt in any dialect, its decision beside the answer.
import { h, pill } from "./text.js";
import { trace } from "./trace.js";

const $ = (id) => document.getElementById(id);
const dialects = [
  { path: "/v1/chat/completions", name: "OpenAI chat completions", body: (m, p) => ({ model: m, stream: true, messages: [{ role: "user", content: p }] }), text: (e) => e.choices?.[0]?.delta?.content },
  { path: "/v1/responses", name: "OpenAI responses", body: (m, p) => ({ model: m, stream: true, input: p }), text: (e) => e.type === "response.output_text.delta" && e.delta },
  { path: "/v1/messages", name: "Anthropic messages", body: (m, p) => ({ model: m, stream: true, max_tokens: 1024, messages: [{ role: "user", content: p }] }), text: (e) => e.delta?.type === "text_delta" && e.delta.text },
  { path: "/v1/completions", name: "OpenAI completions", body: (m, p) => ({ model: m, stream: true, prompt: p }), text: (e) => e.choices?.[0]?.text },
  { path: "/query/stream", name: "query (plain text)", body: (m, p) => ({ prompt: p, ...(m === "auto" ? {} : { tier: m }) }), plain: true },
];

export function startPlayground(state, tierClass) {
  const form = $("play"), stop = $("play-stop");
  let running = null;
  const fill = setInterval(() => { if (state()) { clearInterval(fill); fillForm(form, state()); } }, 100);
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    running?.abort();
    running = new AbortController();
    stop.hidden = false;
    try { await send(form, running.signal, tierClass); } catch (err) { if (err.name !== "AbortError") $("play-answer").append(`\n[${err.message}]`); }
    stop.hidden = true;
  });
  form.prompt.addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) form.requestSubmit(); });
}

function fillForm(form, state) {
  const served = dialects.filter((d) => state.dialects.includes(d.path));
  form.dialect.replaceChildren(...served.map((d) => h("option", { value: d.path }, d.name)));
  form.model.replaceChildren(h("option", {}, "auto"), ...state.tiers.map((t) => h("option", {}, t.name)));
  if (served.length === 0) form.querySelector(".primary").disabled = true;
}

async function send(form, signal, tierClass) {
  const d = dialects.find((x) => x.path === form.dialect.value), out = $("play-answer"), headers = { "Content-Type": "application/json" };
  if (form.key.value) headers.Authorization = "Bearer " + form.key.value;
  if (form.user.value) headers["X-Router-User"] = form.user.value;
  out.textContent = "";
  $("play-decision").replaceChildren("routing…");
  const r = await fetch(d.path.slice(1), { method: "POST", headers, signal, body: JSON.stringify(d.body(form.model.value, form.prompt.value)) });
  showDecision(r, tierClass);
  if (!r.ok) { const e = await r.json().catch(() => ({})); out.textContent = e.error?.message || `status ${r.status}`; return; }
  for await (const text of pieces(r, d)) out.append(text);
  await showTrace(r.headers.get("X-Router-Decision"), tierClass);
}

function showDecision(r, tierClass) {
  const tier = r.headers.get("X-Router-Tier"), score = r.headers.get("X-Router-Score");
  $("play-decision").className = "";
  $("play-decision").replaceChildren(h("p", { class: "reason" }, r.headers.get("X-Router-Reason") || ""),
    h("p", {}, tier && h("span", { class: "pill" }, h("i", { class: "dot " + tierClass(tier) }), tier), " ", r.headers.get("X-Router-Model") || "", " ", score && pill("score " + score), " ", !r.ok && pill(r.status, "bad")));
}

async function showTrace(id, tierClass) {
  const r = id && await fetch("dashboard/decisions/" + encodeURIComponent(id));
  if (r && r.ok) $("play-decision").append(h("details", {}, h("summary", {}, "Trace"), trace(await r.json(), tierClass)));
}

// pieces are the answer's texts as they come.
async function* pieces(response, d) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    if (d.plain) { yield value; continue; }
    rest += value;
    const parts = rest.split(/\r?\n/);
    rest = parts.pop();
    for (const line of parts) { const text = line.startsWith("data:") && textOf(line.slice(5).trim(), d); if (text) yield text; }
  }
}

function textOf(data, d) {
  if (data === "[DONE]" || data === "") return "";
  const event = JSON.parse(data);
  if (event.error) return `\n[${event.error.message}]`;
  return d.text(event) || "";
}
