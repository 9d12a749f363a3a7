"use strict";
// The folded settings of each mode, made from the model's own defaults; and settings read back out of a saved picture.

const NAMES = {
  seed: "Seed", n: "Pictures", size: "Size (width x height)", steps: "Steps", shift: "Shift of the time grid",
  text_scale: "Guidance by text (1 is off)", image_scale: "Guidance by picture (1 is off)", low: "Guidance from time",
  high: "Guidance to time", renorm: "Renormalisation", renorm_min: "Least factor of it", negative: "Negative prompt",
  solver: "Solver", palette: "Palette", temperature: "Temperature (0 is greedy)", max_tokens: "Tokens at most",
  think: "Think first",
};
const CHOICES = {
  renorm: ["global", "channel", "text_channel"], solver: ["euler", "dpm"],
  palette: ["auto", "distinct", "tab20", "random"],
};

function settingsOf(about, mode) {
  if (mode === "chat") return { seed: 0, temperature: 0, max_tokens: 500, think: false };
  const found = { seed: 0, ...about.defaults[mode] };
  if (mode === "segment") return { ...found, palette: about.palette };
  if (about.sizes.length) CHOICES.size = ["auto", ...about.sizes];
  return { ...found, n: 1, size: "auto", ...(mode === "t2i" && about.thinks ? { think: false } : {}) };
}

function addSettings(place, values) {
  const fields = document.createElement("div");
  fields.className = "fields";
  for (const [name, value] of Object.entries(values)) {
    const label = document.createElement("label");
    label.append(NAMES[name] || name, " ");
    let field;
    if (CHOICES[name]) {
      field = document.createElement("select");
      for (const choice of CHOICES[name]) field.append(new Option(choice, choice, false, choice === value));
    } else {
      field = document.createElement("input");
      field.type = typeof value === "boolean" ? "checkbox" : typeof value === "number" ? "number" : "text";
      if (field.type === "number") field.step = "any";
      if (field.type === "checkbox") field.checked = value; else field.value = value;
    }
    field.name = name;
    label.append(field);
    fields.append(label);
  }
  place.append(fields);
}

function readSettings(place) {
  const found = {};
  for (const field of place.querySelectorAll("[name]")) {
    if (field.type === "checkbox") { if (field.checked) found[field.name] = true; }
    else if (field.type === "number") { if (field.value !== "") found[field.name] = Number(field.value); }
    else found[field.name] = field.value;
  }
  return found;
}

function fillSettings(place, values) {
  for (const field of place.querySelectorAll("[name]")) {
    if (values[field.name] === undefined || values[field.name] === null) continue;
    if (field.type === "checkbox") field.checked = Boolean(values[field.name]);
    else field.value = values[field.name];
  }
}

// The text "sgt_jax" inside a PNG: chunks are length, name, data, checksum.
async function settingsInside(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer), latin = new TextDecoder("latin1");
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at), kind = latin.decode(bytes.subarray(at + 4, at + 8));
    const data = latin.decode(bytes.subarray(at + 8, at + 8 + length));
    if (kind === "tEXt" && data.startsWith("sgt_jax\0")) return JSON.parse(data.slice(8));
    at += 12 + length;
  }
  throw new Error("this picture holds no settings of sgt_jax");
}
