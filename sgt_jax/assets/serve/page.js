"use strict";
// Tabs, requests and replies. Everything comes from the server that served this page.

const MODES = { parts: "segment", answer: "chat", draw: "t2i", edit: "edit", compare: "compare" };
const ROUTES = { t2i: "/v1/images/generations", edit: "/v1/images/edits", segment: "/v1/segmentations" };
let about = null;
const turns = [];            // of the conversation, as messages
const pictures = new Map();  // section -> data URIs of the pictures that were chosen

const $ = (query, place = document) => place.querySelector(query);
const all = (query, place = document) => [...place.querySelectorAll(query)];

// -- Talking to the server -------------------------------------------------------------------------------------------

async function post(path, body, signal) {
  const key = $("#key").value, headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!reply.ok) {
    const said = await reply.json().catch(() => null);
    throw new Error(said && said.error ? said.error.message : `the server said ${reply.status}`);
  }
  return reply;
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const line = text.slice(0, end).replace(/^data: /, "");
      if (line === "[DONE]") return;
      const found = JSON.parse(line);
      if (found.error) throw new Error(found.error.message);
      yield found;
    }
  }
}

async function paint(mode, body, signal, step) {
  const found = [];
  let thought = "";
  for await (const one of events(await post(ROUTES[mode], { ...body, stream: true }, signal))) {
    if (one.type === "progress") step(one.step, one.steps);
    else if (one.type === "thought") thought = one.text;
    else found.push({ ...one, thought });
  }
  return found;
}

async function chat(messages, body, signal, piece) {
  const asked = { ...body, messages, stream: true };
  let text = "";
  for await (const one of events(await post("/v1/chat/completions", asked, signal))) {
    if (!one.choices.length || !one.choices[0].delta.content) continue;
    text += one.choices[0].delta.content;
    piece(text);
  }
  return text;
}

function userMessage(uris, text) {
  const parts = uris.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: "user", content: text ? [...parts, { type: "text", text }] : parts };
}

// -- What a section does ---------------------------------------------------------------------------------------------

async function act(section, signal, step) {
  const prompt = $(".prompt", section).value.trim(), uris = pictures.get(section.id) || [];
  const mode = MODES[section.id], model = about.models[0].id, place = $(".results", section);
  if (mode === "compare") return compare(section, prompt, uris, signal, step);
  const body = { model, ...readSettings($("[data-settings]", section)), prompt };
  if (mode === "chat") return ask(section, uris, prompt, body, signal);
  if (mode !== "t2i" && !uris.length) throw new Error("Choose a picture first.");
  body.image = mode === "t2i" ? undefined : mode === "segment" ? uris[0] : uris.slice(0, about.references);
  const found = await paint(mode, body, signal, step);
  place.replaceChildren(...await figures(mode, found, uris[0], ""));
  return `Done with seed ${found.map((one) => one.settings.seed).join(", ")}.`;
}

async function figures(mode, found, photo, name) {
  const out = [];
  for (const one of found) {
    if (mode === "segment") out.push(...await showParts(one, photo, name));
    else out.push(showPicture(one.b64_json, `${name ? name + ": " : ""}${one.settings.prompt}, seed ${one.settings.seed}`,
                              `${mode}_${one.settings.seed}.png`, one.thought));
  }
  return out;
}

async function ask(section, uris, prompt, body, signal) {
  if (!prompt && !uris.length) throw new Error("Write a question, or choose a picture.");
  delete body.prompt;
  const question = userMessage(uris, prompt);
  addTurn(section, prompt, uris, "asked");
  choose(section, []);
  $(".prompt", section).value = "";
  const place = addTurn(section, "…", [], "answered");
  try {
    const text = await chat([...turns, question], body, signal, (so_far) => { place.textContent = so_far; });
    place.textContent = text || "(an empty answer)";
    turns.push(question, { role: "assistant", content: text });
  } catch (error) {
    place.remove();
    throw error;
  }
  return "";
}

function addTurn(section, text, uris, kind) {
  const turn = document.createElement("div");
  turn.className = `turn ${kind}`;
  uris.forEach((uri, number) => turn.append(preview(uri, `picture ${number + 1} of the question`)));
  turn.append(text);
  $(".turns", section).append(turn);
  return turn;
}

async function compare(section, prompt, uris, signal, step) {
  const mode = $("[name=what]", section).value, seed = Number($("[name=seed]", section).value), place = $(".results", section);
  if ((mode === "segment" || mode === "edit") && !uris.length) throw new Error("Choose a picture first.");
  const shown = await Promise.all(about.models.map(async (model) => {
    const body = { model: model.id, seed };
    if (mode === "chat") {
      const turn = document.createElement("figure"), text = await chat([userMessage(uris, prompt)], body, signal, () => {});
      turn.textContent = `${model.id}: ${text}`;
      return [turn];
    }
    const image = mode === "t2i" ? undefined : mode === "segment" ? uris[0] : [uris[0]];
    return figures(mode, await paint(mode, { ...body, prompt, image }, signal, step), uris[0], model.id);
  }));
  place.replaceChildren(...shown.flat());
  return "Left or first: " + about.models.map((model) => model.id).join(", then ") + ".";
}

// -- Forms -----------------------------------------------------------------------------------------------------------

function wire(section) {
  const form = $("form", section), says = $(".says", section), cancel = $(".cancel", section), bar = $("progress", section);
  const go = $(".go", section);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const stop = new AbortController(), began = performance.now();
    const step = (done, steps) => { if (bar) { bar.max = steps; bar.value = done; } says.textContent = `Step ${done} of ${steps}`; };
    cancel.onclick = () => stop.abort();
    cancel.hidden = false; go.disabled = true;
    if (bar) { bar.hidden = false; bar.removeAttribute("value"); }
    says.textContent = "Waiting for the model …"; says.classList.remove("wrong");
    try {
      const said = await act(section, stop.signal, step);
      says.textContent = `${said} ${((performance.now() - began) / 1000).toFixed(1)} s`.trim();
    } catch (error) {
      says.textContent = error.name === "AbortError" ? "Cancelled." : error.message;
      says.classList.toggle("wrong", error.name !== "AbortError");
    } finally {
      cancel.hidden = true; go.disabled = false;
      if (bar) bar.hidden = true;
    }
  });
  const file = $("[name=image]", section);
  if (file) file.addEventListener("change", async () => choose(section, await Promise.all([...file.files].map(asUri))));
  for (const button of all("[data-example]", section)) button.addEventListener("click", () => choose(section, [examplePhoto()]));
  for (const text of about.examples[MODES[section.id]] || []) {
    const place = $(".examples", section), button = document.createElement("button");
    if (!place) break;
    button.type = "button"; button.textContent = text;
    button.addEventListener("click", () => { $(".prompt", section).value = text; });
    place.append(button);
  }
  const settings = $("[data-settings]", section);
  if (settings) addSettings(settings, settingsOf(about, settings.dataset.settings));
}

function choose(section, uris) {
  pictures.set(section.id, uris);
  $(".previews", section).replaceChildren(...uris.map((uri, n) => preview(uri, `chosen picture ${n + 1}`)));
}

function preview(uri, alt) {
  const picture = document.createElement("img");
  picture.src = uri; picture.alt = alt;
  return picture;
}

function asUri(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

// Shapes on black, as the smallest model was trained on; larger ones paint them, too.
function examplePhoto() {
  const canvas = document.createElement("canvas"), side = about.largest_side < 256 ? about.largest_side : 512, u = side / 32;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.fillStyle = "#000"; context.fillRect(0, 0, side, side);
  context.fillStyle = "#e02020"; context.beginPath(); context.arc(9 * u, 10 * u, 6 * u, 0, 7); context.fill();
  context.fillStyle = "#2040e0"; context.fillRect(18 * u, 16 * u, 10 * u, 10 * u);
  return canvas.toDataURL("image/png");
}

function select(name) {
  for (const tab of all("[role=tab]")) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(`#${tab.getAttribute("aria-controls")}`).hidden = !chosen;
  }
}

async function reproduce(file) {
  const says = $("#draw .says");
  try {
    const inside = await settingsInside(file);
    const name = Object.keys(MODES).find((one) => MODES[one] === inside.mode), section = $(`#${name}`);
    select(name);
    $(".prompt", section).value = inside.prompt;
    fillSettings($("[data-settings]", section), inside);
    $("details", section).open = true;
    if (inside.mode === "t2i") $("form", section).requestSubmit();
    else $(".says", section).textContent = "The settings are those of the picture; choose the same photo, and go.";
  } catch (error) {
    says.textContent = error.message; says.classList.add("wrong");
  }
}

function showWords(words) {
  const place = $("#words");
  if (!words.length) return;
  place.hidden = false;
  $("summary", place).textContent = `This model knows ${words.length} words`;
  for (const word of words) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = word;
    button.addEventListener("click", () => {
      const prompt = $("section:not([hidden]) .prompt");
      prompt.value = `${prompt.value} ${word}`.trim();
    });
    $(".list", place).append(button);
  }
}

async function begin() {
  about = await (await fetch("/about.json")).json();
  const said = about.models.map((model) => `${model.id} (${model.weights})`).join(" and ");
  $("#loaded").textContent = `Loaded: ${said}, family ${about.family}; pictures of up to ${about.largest_side} pixels a side.`;
  $("#keyfield").hidden = !about.key;
  if (about.models.length > 1) $("#tab-compare").hidden = false;
  $("#parts .prompt").value = about.examples.segment[0];
  $("#edit [name=image]").multiple = about.references > 1;
  all("main > section").forEach(wire);
  showWords(about.words);
  $("#answer .forget").addEventListener("click", () => { turns.length = 0; $("#answer .turns").replaceChildren(); });
  $("#reproduce").addEventListener("change", (event) => { if (event.target.files[0]) reproduce(event.target.files[0]); });
  const tabs = all("[role=tab]");
  tabs.forEach((tab) => tab.addEventListener("click", () => select(tab.id.slice(4))));
  $("#tabs").addEventListener("keydown", (event) => {
    const shown = tabs.filter((tab) => !tab.hidden), at = shown.indexOf(document.activeElement);
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (at < 0 || !move) return;
    const next = shown[(at + move + shown.length) % shown.length];
    select(next.id.slice(4)); next.focus();
  });
  document.body.dataset.ready = "true";
}

begin().catch((error) => { $("#loaded").textContent = `The server cannot be reached: ${error.message}`; });
