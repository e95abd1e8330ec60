// What the scripts share: where the server is, the scenes, and how a check is
// reported. Each scene is played by a model that follows the script in
// README.md.

export const baseURL = process.env.BASE_URL ?? "http://127.0.0.1:8080/v1";
export const apiKey = process.env.API_KEY ?? "none";
export const model = process.env.MODEL ?? "auto";

export const temperatures = { Paris: 18, Rome: 24 };

export const weatherSchema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

export const reportSchema = {
  type: "object",
  properties: { city: { type: "string" }, celsius: { type: "integer" } },
  required: ["city", "celsius"],
  additionalProperties: false,
};

// One red pixel.
export const pixel =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==";

export function want(condition, message, got) {
  if (!condition) throw new Error(`${message}; got ${JSON.stringify(got)}`);
}

let failed = 0;

export async function check(client, name, run) {
  try {
    await run();
    console.log(`ok ${client}: ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${client}: ${name}: ${String(error?.stack ?? error).split("\n").slice(0, 4).join(" | ")}`);
  }
}

export function finish() {
  process.exitCode = failed > 0 ? 1 : 0;
}

// throws runs what must fail and returns the error.
export async function throws(run) {
  try {
    await run();
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}
