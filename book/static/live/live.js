// The page "Try your own photo": what can be clicked, and what is shown.
// worker.js computes, paint.js colours.

import { byMax, overlay, photoPicture, planes, signed } from "./paint.js";
import { objection } from "./photo.js";

const MOST_BYTES = 30e6;
const RULES = {
  gradient: "plain gradient",
  deconvnet: "Deconvnet",
  guided: "guided backpropagation",
};

const root = document.getElementById("live");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });

let ready; // resolves to the facts about the model, once they are here
const facts = new Promise((resolve) => (ready = resolve));
let asked = 0; // the number of the latest question; answers to earlier ones are dropped
let shown; // the latest answer: everything on the page is drawn from it

function say(sentence, trouble = false) {
  part("status").textContent = sentence;
  part("status").classList.toggle("trouble", trouble);
}

worker.onmessage = async ({ data }) => {
  if (data.facts) ready(data.facts);
  else if (data.sentence) {
    part("progress").hidden = true;
    say(data.sentence, true);
  } else if (data.total) {
    part("progress").value = data.done / data.total;
    const [done, total] = [data.done, data.total].map((bytes) => (bytes / 1e6).toFixed(0));
    say(`Loading the network and what runs it: ${done} of ${total} MB.`);
  } else if (data.ready) part("progress").hidden = true;
  else if (data.ticket === asked) show(data, await facts);
};
worker.onerror = () =>
  say(
    "This browser cannot start the page's worker. A current Firefox, Chrome, Edge or Safari can.",
    true,
  );

/** Send a question; the answer comes to `show`. */
function ask(question, transfer = []) {
  say("Looking …");
  worker.postMessage({ ...question, ticket: ++asked }, transfer);
}

// ---------------------------------------------------------------- photos

/**
 * Look at a file, a blob or a video. What cannot be used is explained, and the page stays as
 * it was.
 */
async function open(source) {
  const turn = asked;
  try {
    const reason = source instanceof Blob ? await fileObjection(source) : "";
    if (reason) return say(reason, true);
    const picture = await createImageBitmap(source, { colorSpaceConversion: "none" });
    if (turn === asked) ask({ photo: picture }, [picture]);
  } catch {
    say(
      "This file could not be read as a picture. Is it complete? Try saving it as PNG or JPEG.",
      true,
    );
  }
}

/** Read the picture's size, which decodes no pixel, before anything large is made of it. */
async function fileObjection(file) {
  if (file.size > MOST_BYTES) {
    const [size, most] = [(file.size / 1e6).toFixed(0), MOST_BYTES / 1e6];
    return `The file has ${size} MB; at most ${most} MB are read. Scale the picture down first.`;
  }
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) =>
      Object.assign(image, { onload: resolve, onerror: reject, src: address }),
    );
    return objection(image.naturalWidth, image.naturalHeight, await facts);
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function openSample(name) {
  const answer = await fetch(new URL(`${name}.webp`, import.meta.url)).catch(() => null);
  if (answer?.ok) open(await answer.blob());
  else say(`The sample ${name} could not be loaded.`, true);
}

async function openCamera() {
  const dialog = part("camera");
  const video = dialog.querySelector("video");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment" },
    });
  } catch (error) {
    return say(
      `The camera could not be used (${error.message || "no permission"}). Choose a photo instead.`,
      true,
    );
  }
  dialog.onclose = async () => {
    if (dialog.returnValue === "take") await open(video);
    video.srcObject.getTracks().forEach((track) => track.stop());
  };
  dialog.returnValue = "";
  dialog.showModal();
}

// ---------------------------------------------------------------- what is shown

/** Take an answer of the worker: `square` (the photo's pixels), scores, class explained, maps. */
function show(answer, { classNames, crop, heat }) {
  const top = Math.max(...answer.scores);
  const powers = answer.scores.map((score) => Math.exp(score - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  shown = {
    ...answer,
    size: crop,
    heat,
    names: classNames,
    probabilities: powers.map((power) => power / sum),
  };
  shown.product = (rule) =>
    answer[rule].map((value, i) => value * answer.grad_cam[i % (crop * crop)]);
  listClasses();
  draw(...Object.keys(PICTURES));
  part("results").hidden = false;
  say(`${described()}. Computed here, in ${answer.seconds.toFixed(1)} seconds.`);
  root.dispatchEvent(new CustomEvent("explained", { detail: shown }));
}

function described() {
  const percent = (100 * shown.probabilities[shown.explained]).toFixed(1);
  return `“${shown.names[shown.explained]}”, probability ${percent} %`;
}

function listClasses() {
  const order = [...shown.probabilities.keys()]
    .sort((a, b) => shown.probabilities[b] - shown.probabilities[a])
    .slice(0, 5);
  if (!order.includes(shown.explained)) order.push(shown.explained);
  // the one chosen keeps the keyboard's focus when the list is made anew
  const focused = part("classes").contains(document.activeElement);
  part("classes").replaceChildren(
    ...order.map((index) => {
      const label = document.createElement("label");
      const radio = document.createElement("input");
      const share = shown.probabilities[index];
      Object.assign(radio, {
        type: "radio",
        name: "live-class",
        value: index,
        checked: index === shown.explained,
      });
      label.style.setProperty("--share", `${100 * share}%`);
      label.append(
        radio,
        ` ${shown.names[index]} `,
        Object.assign(document.createElement("span"), {
          textContent: `${(100 * share).toFixed(1)} %`,
        }),
      );
      return label;
    }),
  );
  if (focused) part("classes").querySelector(":checked").focus();
}

const rule = () => part("rule").querySelector(":checked").value;

/** The pictures by the name of their canvas, made as ImageData when they are asked for. */
const PICTURES = {
  photo: () => photoPicture(shown.square, shown.size),
  grad_cam: () =>
    overlay(
      shown.square,
      byMax(shown.grad_cam),
      shown.size,
      part("strength").value / 100,
      shown.heat,
    ),
  deconvnet: () => planes(signed(shown.deconvnet), shown.size),
  guided: () => planes(signed(shown.guided), shown.size),
  guided_grad_cam: () => planes(signed(shown.guided_grad_cam), shown.size),
  ruled: () => planes(signed(shown[rule()]), shown.size),
  ruled_grad_cam: () => planes(signed(shown.product(rule())), shown.size),
};

function draw(...names) {
  part("ruled-name").textContent = RULES[rule()];
  part("ruled-product-name").textContent = `${RULES[rule()]} × Grad-CAM`;
  for (const name of names) {
    const canvas = root.querySelector(`canvas[data-map="${name}"]`);
    Object.assign(canvas, { width: shown.size, height: shown.size });
    canvas.getContext("2d").putImageData(PICTURES[name](), 0, 0);
    const title = canvas.closest("figure").querySelector("figcaption").textContent;
    canvas.setAttribute(
      "aria-label",
      name === "photo"
        ? "The part of the photo that the network sees"
        : `${title} for ${described()}`,
    );
  }
}

/** All pictures in one, with their names, as a PNG. */
async function download() {
  const side = 256;
  const gap = 16;
  const line = 28;
  const canvases = [...root.querySelectorAll("canvas[data-map]")];
  const columns = 4;
  const sheet = document.createElement("canvas");
  const pen = sheet.getContext("2d");
  sheet.width = columns * (side + gap) + gap;
  sheet.height = 2 * line + gap + Math.ceil(canvases.length / columns) * (side + line + gap);
  pen.fillStyle = "white";
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.fillStyle = "#22313f";
  pen.font = "bold 18px system-ui, sans-serif";
  pen.fillText(`Where did the network look, and at what? ${described()}`, gap, line);
  pen.font = "15px system-ui, sans-serif";
  canvases.forEach((canvas, i) => {
    const x = gap + (i % columns) * (side + gap);
    const y = line + gap + Math.floor(i / columns) * (side + line + gap);
    pen.fillText(canvas.closest("figure").querySelector("figcaption").textContent, x, y + 18);
    pen.drawImage(canvas, x, y + line, side, side);
  });
  pen.font = "13px system-ui, sans-serif";
  const scales = part("scales").textContent.trim();
  const legend = `Grad-CAM with strength ${part("strength").value} % over the photo. ${scales}`;
  pen.fillText(legend, gap, sheet.height - 12, sheet.width - 2 * gap);
  const file = await new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(file),
    download: "explained.png",
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
}

// ---------------------------------------------------------------- what can be done

part("choose").onclick = () => part("file").click();
part("file").onchange = ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = ""; // the same file can be chosen again
};
part("shoot").onclick = openCamera;
part("strength").oninput = () => draw("grad_cam");
part("rule").onchange = () => draw("ruled", "ruled_grad_cam");
part("download").onclick = download;
part("classes").onchange = ({ target }) => ask({ wanted: Number(target.value) });
part("any").onchange = ({ target }) => {
  const text = target.value.trim().toLowerCase();
  const names = shown.names.map((name) => name.toLowerCase());
  if (!text) return;
  const near = names.flatMap((name, i) => (name.includes(text) ? [i] : []));
  const index = names.includes(text) ? names.indexOf(text) : near.length === 1 ? near[0] : -1;
  if (index >= 0) return ask({ wanted: index });
  const suggestions = near.slice(0, 5).map((i) => shown.names[i]);
  const hint = near.length
    ? `Did you mean ${suggestions.join(", ")}?`
    : "The list below the field has all of them.";
  say(`The network knows no class “${target.value}”. ${hint}`, true);
};

const area = part("drop");
for (const kind of ["dragover", "dragleave", "drop"])
  area.addEventListener(kind, (event) => {
    event.preventDefault();
    area.classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file) open(file);
    else if (kind === "drop")
      say("That was no file. Save the picture first, then drop the file here.", true);
  });
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) open(event.clipboardData.files[0]);
});

facts.then(({ samples, classNames }) => {
  part("samples").replaceChildren(
    ...samples.map((name) => {
      const button = Object.assign(document.createElement("button"), {
        type: "button",
        title: name,
      });
      button.append(
        Object.assign(new Image(), {
          src: new URL(`${name}.webp`, import.meta.url),
          alt: `sample photo: ${name}`,
        }),
      );
      button.onclick = () => openSample(name);
      return button;
    }),
  );
  part("names").replaceChildren(
    ...classNames.map((name) => Object.assign(document.createElement("option"), { value: name })),
  );
  openSample(samples[0]);
});
