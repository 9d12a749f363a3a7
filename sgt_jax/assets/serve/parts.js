"use strict";
// A photo whose painted parts light up under the mouse, a finger or the keyboard.

function partColour(number) {
  return [[230, 85, 60], [40, 130, 200], [70, 170, 90], [220, 170, 40], [150, 90, 190], [60, 180, 190], [220, 110, 170],
          [130, 110, 70]][(number - 1) % 8];
}

function loadPicture(url) {
  return new Promise((done, failed) => {
    const picture = new Image();
    picture.onload = () => done(picture);
    picture.onerror = () => failed(new Error("not a picture that this browser can show"));
    picture.src = url;
  });
}

function pixelsOf(picture, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

function describePart(part, parts, total) {
  const [x, y, width, height] = part.bbox, share = (100 * part.area / total).toFixed(1);
  return `Part ${part.label} of ${parts.length}: area ${part.area} pixels (${share} %), box ${width} by ${height} at (${x}, ${y})`;
}

// found: a reply of /v1/segmentations; photo: the picture that was sent.
async function showParts(found, photoUrl, name) {
  const [height, width] = found.size, parts = found.instances, total = width * height;
  const labels = pixelsOf(await loadPicture("data:image/png;base64," + found.labels_b64_json), width, height).data;
  const photo = pixelsOf(await loadPicture(photoUrl), width, height);
  const figure = document.createElement("figure"), canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height; canvas.className = "overlay";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `The photo with ${parts.length} painted parts; the buttons below name each`);
  const caption = document.createElement("figcaption"), over = document.createElement("p"), list = document.createElement("ul");
  over.className = "over"; over.setAttribute("role", "status");
  list.className = "parts";
  const nothing = parts.length ? "Point at a part, or choose one:" : "The model painted no part.";

  function light(number) {
    const context = canvas.getContext("2d"), shown = new ImageData(new Uint8ClampedArray(photo.data), width, height);
    for (let i = 0; i < total; i++) {
      const label = labels[4 * i];
      if (!label) continue;
      const strength = number === 0 ? 0.45 : label === number ? 0.85 : 0.12;
      partColour(label).forEach((value, c) => { shown.data[4 * i + c] += strength * (value - shown.data[4 * i + c]); });
    }
    context.putImageData(shown, 0, 0);
    const part = parts.find((one) => one.label === number);
    over.textContent = part ? describePart(part, parts, total) : nothing;
    canvas.dataset.part = number;
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.min(width - 1, Math.floor((event.clientX - box.left) / box.width * width));
    const y = Math.min(height - 1, Math.floor((event.clientY - box.top) / box.height * height));
    light(labels[4 * (y * width + x)] || 0);
  });
  // Without a pointer, the part whose button has the focus stays lit.
  const rest = () => light(list.contains(document.activeElement) ? Number(document.activeElement.dataset.part) : 0);
  canvas.addEventListener("pointerleave", rest);
  for (const part of parts) {
    const item = document.createElement("li"), button = document.createElement("button"), swatch = document.createElement("span");
    button.type = "button"; swatch.className = "swatch";
    swatch.style.background = `rgb(${partColour(part.label).join(",")})`;
    button.append(swatch, `Part ${part.label}`);
    for (const kind of ["focus", "pointerenter", "click"]) button.addEventListener(kind, () => light(part.label));
    button.dataset.part = part.label;
    button.addEventListener("blur", () => light(0));
    button.addEventListener("pointerleave", rest);
    item.append(button); list.append(item);
  }
  light(0);
  caption.append(name ? `${name}: ` : "", over, list);
  figure.append(canvas, caption);
  const { b64_json: painting, labels_b64_json: labelPicture, ...document_ } = found;
  const json = new Blob([JSON.stringify(document_, null, 1)], { type: "application/json" });
  const painted = showPicture(painting, "What the model painted", "parts.png");
  painted.querySelector("figcaption").append(
    " ", download("labels", "data:image/png;base64," + labelPicture, "parts_labels.png"),
    " ", download("JSON", URL.createObjectURL(json), "parts.json"));
  return [figure, painted];
}

function download(text, address, name) {
  const link = document.createElement("a");
  link.href = address; link.download = name; link.textContent = `save ${text}`;
  return link;
}

function showPicture(base64, alt, name, thought) {
  const figure = document.createElement("figure"), picture = document.createElement("img");
  picture.src = "data:image/png;base64," + base64; picture.alt = alt;
  const caption = document.createElement("figcaption");
  caption.append(`${alt}. `, download("picture", picture.src, name));
  figure.append(picture, caption);
  if (thought) {
    const plan = document.createElement("p");
    plan.className = "soft thought"; plan.textContent = `The model planned: ${thought}`;
    figure.append(plan);
  }
  return figure;
}
