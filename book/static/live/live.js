// The page "Try your own photo": what can be clicked, and what is shown.
// photo.js reads photos, worker.js computes, paint.js colours.

import { load, loadFacts, Refusal } from "./load.js";
import { byMax, overlay, photoPicture, planes, signed } from "./paint.js";
import { decode } from "./photo.js";

const FAST = 8; // Mbit/s at which what computes is loaded unasked, and the first sample explained

const root = document.getElementById("live");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const patience = Number(root.dataset.patience); // seconds

const facts = loadFacts("model.json", patience); // about the model, the methods and the samples
let latest = 0; // ticket of the reader's latest choice; what belongs to an earlier one is dropped
let worker; // undefined until something is asked, and after it failed to start
let loaded = false; // whether the network and its runtime are here
let asked = -1; // the class asked about in the latest question
let shown; // the latest answer: everything on the page is drawn from it

// ---------------------------------------------------------------- words

/** Screen readers read this out, so it is for what the reader waits for, not for every step. */
function say(sentence, trouble = false) {
  part("status").textContent = sentence;
  part("status").classList.toggle("trouble", trouble);
}

function refuse(sentence) {
  busy(false);
  say(sentence, true);
}

function busy(yes) {
  part("results").ariaBusy = String(yes);
  part("loading").hidden = !yes || loaded;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---------------------------------------------------------------- photos

/**
 * Look at a photo: a Blob or an ImageBitmap, or the promise of one. The ticket is taken before
 * anything is fetched or decoded, so the last choice is what is shown. What cannot be used is
 * explained, and the page stays as it was. `sample`: its name, if it is one of the samples.
 */
async function look(source, sample) {
  const ticket = ++latest;
  busy(true);
  say(words("reading"));
  try {
    const given = await source;
    const picture = given instanceof Blob ? await decode(given, await facts) : given;
    if (ticket === latest) await ask({ picture, sample, wanted: -1 }, [picture], ticket);
    else picture.close();
  } catch (error) {
    if (ticket !== latest) return;
    refuse(error instanceof Refusal ? error.message : words("failed", { error }));
  }
}

async function lookAtSample(name) {
  const photo = load(`${name}.webp`, patience).then((bytes) => new Blob([bytes]));
  await look(photo, name);
}

let opening = false; // between the click and the browser's answer, a second click does nothing

async function openCamera() {
  if (opening) return;
  opening = true;
  const dialog = part("camera");
  const video = dialog.querySelector("video");
  const take = dialog.querySelector("button[value=take]");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment" },
    });
  } catch (error) {
    latest++; // whatever is on its way would wipe this sentence away
    const denied = error.message || words("noPermission");
    const why = navigator.mediaDevices ? denied : words("onlyHttps");
    return refuse(words("noCamera", { why }));
  } finally {
    opening = false;
  }
  take.disabled = true;
  video.onloadeddata = () => {
    take.disabled = false;
    take.focus();
  };
  dialog.onclose = async () => {
    if (dialog.returnValue === "take") await look(createImageBitmap(video));
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  dialog.returnValue = "";
  dialog.showModal();
}

// ---------------------------------------------------------------- questions

/** Send a question to the worker; the answer to the latest one comes to `show`. */
async function ask(question, transfer = [], ticket = ++latest) {
  asked = question.wanted;
  part("hint").textContent = "";
  if (asked < 0) part("any").value = ""; // what was typed belongs to the photo before
  worker ??= startWorker(await facts);
  busy(true);
  say(loaded ? words("looking") : words("loadingNetwork", { size: size() }));
  worker.postMessage({ ...question, ticket }, transfer);
}

/** Ask about another class of the photo that is shown. */
const askAgain = (wanted) => ask({ square: shown.square, sample: shown.sample, wanted });

const size = () => document.getElementById("live-size").textContent;

function startWorker(facts) {
  const made = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  const fail = (sentence) => {
    clearTimeout(late);
    made.terminate();
    worker = undefined; // the next question tries again
    latest++;
    refuse(sentence);
  };
  const late = setTimeout(() => fail(words("workerStalled")), 1000 * patience);
  made.onerror = () => fail(words("workerMissing"));
  made.onmessage = ({ data }) => {
    if (data.started) clearTimeout(late);
    else if (data.total) showProgress(data);
    else if (data.ready) {
      loaded = true;
      root.dataset.threads = data.threads;
      part("loading").hidden = true;
    } else if (data.ticket !== latest) return;
    else if (data.sentence) refuse(data.sentence);
    else show(data, facts);
  };
  made.postMessage({ facts, patience, language: words.language });
  return made;
}

function showProgress({ done, total }) {
  part("progress").value = done / total;
  const megabytes = (bytes) => (bytes / 1e6).toFixed(0);
  part("loaded").textContent = words("loaded", { done: megabytes(done), total: megabytes(total) });
}

/** Ask about a class that was typed; it need not be typed in full. */
function askByName() {
  const text = part("any").value.trim().toLowerCase();
  const names = shown.names.map((name) => name.toLowerCase());
  if (!text) return;
  const near = names.flatMap((name, i) => (name.includes(text) ? [i] : []));
  const index = names.includes(text) ? names.indexOf(text) : near.length === 1 ? near[0] : -1;
  if (index >= 0) {
    const there = index === asked && index === shown.explained;
    part("hint").textContent = there ? words("thatIsShown", { name: shown.names[index] }) : "";
    if (index !== asked) askAgain(index);
    return;
  }
  const suggestions = near.slice(0, 5).map((i) => shown.names[i]);
  const more = near.length
    ? words("didYouMean", { names: suggestions.join(", ") })
    : words("listBelow");
  part("hint").textContent = words("noClass", { name: part("any").value, more });
}

// ---------------------------------------------------------------- what is shown

/**
 * Take an answer of the worker: `square` (the photo's pixels), `sample` (its name, if it is one),
 * scores, class explained, maps.
 */
function show(answer, { classNames, crop, heat, samples }) {
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
  asked = shown.explained;
  listClasses();
  draw(...pictures.keys());
  busy(false);
  part("results").hidden = false;
  const done = words("done", { described: described(), seconds: answer.seconds.toFixed(1) });
  const known = samples.find(({ name }) => name === shown.sample);
  const remark = known && remarkOn(known, classNames.length);
  say(remark ? words("remarked", { done, remark }) : done);
  root.dispatchEvent(new CustomEvent("explained", { detail: shown }));
}

/** What the network's answer for a sample is: "right", "wrong", or "none" if no class fits it. */
function verdict({ fits, says }) {
  if (!fits.length) return "none";
  return fits.includes(says) ? "right" : "wrong";
}

/** What to know about a sample that is not named rightly, in a sentence; else nothing. */
function remarkOn(sample, count) {
  const { says, fits } = sample;
  if (verdict(sample) === "none") return words("noneFits", { says, count });
  return verdict(sample) === "wrong" ? words("wrongHere", { says, fits: fits.join(", ") }) : "";
}

function described() {
  const percent = (100 * shown.probabilities[shown.explained]).toFixed(1);
  return words("described", { name: shown.names[shown.explained], percent });
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
      const share = 100 * shown.probabilities[index];
      const label = element(
        "label",
        {},
        element("input", {
          type: "radio",
          name: "live-class",
          value: index,
          checked: index === shown.explained,
        }),
        ` ${shown.names[index]} `,
        element("span", { textContent: `${share.toFixed(1)} %` }),
      );
      label.style.setProperty("--share", `${share}%`);
      return label;
    }),
  );
  if (focused) part("classes").querySelector(":checked").focus();
}

/** What is drawn: by the name of a canvas its caption, and how its ImageData is made. */
const pictures = new Map();

/**
 * A canvas for every picture, two and two: the photo and Grad-CAM over it; then each walk to the
 * pixels, and its product with Grad-CAM. The list of methods is the book's own, from model.json.
 */
function layOut(facts) {
  const methods = facts.methods.map((row) => ({ ...row, title: words.title(row) }));
  const regions = methods.find(({ kind }) => kind === "regions");
  const map = (values) => planes(signed(values), shown.size);
  const times = (values) =>
    values.map((value, i) => value * shown[regions.key][i % shown.size ** 2]);
  const heatOver = () => {
    const strength = part("strength").value / 100;
    return overlay(shown.square, byMax(shown[regions.key]), shown.size, strength, shown.heat);
  };

  pictures.set("photo", [words("asSeen"), photoOf]);
  pictures.set(regions.key, [words("overPhoto", { title: regions.title }), heatOver]);
  for (const walk of methods.filter(({ kind }) => kind === "pixels")) {
    const known = methods.find(({ kind, rule }) => kind === "product" && rule === walk.key);
    pictures.set(walk.key, [walk.title, () => map(shown[walk.key])]);
    if (known) pictures.set(known.key, [known.title, () => map(shown[known.key])]);
    else {
      const title = `${walk.title} × ${regions.title}`;
      pictures.set(`${walk.key}_product`, [title, () => map(times(shown[walk.key]))]);
    }
  }
  const figures = [...pictures].map(([name, [title]]) => {
    const canvas = element("canvas", { role: "img" });
    canvas.dataset.map = name;
    return element("figure", {}, element("figcaption", { textContent: title }), canvas);
  });
  part("maps").replaceChildren(...figures);
  part("strength").oninput = () => shown && draw(regions.key);
}

const photoOf = () => photoPicture(shown.square, shown.size);
const canvasOf = (name) => root.querySelector(`canvas[data-map="${name}"]`);

function draw(...names) {
  for (const name of names) {
    const canvas = canvasOf(name);
    const [title, picture] = pictures.get(name);
    Object.assign(canvas, { width: shown.size, height: shown.size });
    canvas.getContext("2d").putImageData(picture(), 0, 0);
    canvas.ariaLabel =
      name === "photo" ? title : words("pictureFor", { title, described: described() });
  }
}

/** All pictures in one, with their names, as a PNG; laid out as on a wide screen. */
async function download() {
  const side = 2 * shown.size; // each of the network's pixels the same
  const gap = 16;
  const line = 28;
  const sheet = document.createElement("canvas");
  const pen = sheet.getContext("2d");
  sheet.width = Math.ceil(pictures.size / 2) * (side + gap) + gap;
  sheet.height = 2 * line + gap + 2 * (side + line + gap);
  pen.fillStyle = "white";
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.fillStyle = "#22313f";
  pen.font = "bold 18px system-ui, sans-serif";
  pen.fillText(`${words("question")} ${described()}`, gap, line);
  pen.font = "15px system-ui, sans-serif";
  [...pictures].forEach(([name, [title]], i) => {
    const x = gap + Math.floor(i / 2) * (side + gap);
    const y = line + gap + (i % 2) * (side + line + gap);
    pen.fillText(title, x, y + 18, side);
    pen.drawImage(canvasOf(name), x, y + line, side, side);
  });
  pen.font = "13px system-ui, sans-serif";
  const used = words("strengthUsed", { strength: part("strength").value });
  pen.fillText(`${used} ${words("scales")}`, gap, sheet.height - 12, sheet.width - 2 * gap);
  const file = await new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  const link = element("a", { href: URL.createObjectURL(file), download: "explained.png" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
}

// ---------------------------------------------------------------- what can be done

part("choose").onclick = () => part("file").click();
part("file").onchange = ({ target }) => {
  if (target.files.length) look(target.files[0]);
  target.value = ""; // the same file can be chosen again
};
part("shoot").onclick = openCamera;
part("download").onclick = download;
part("classes").onchange = ({ target }) => {
  part("any").value = "";
  askAgain(Number(target.value));
};
part("any").onchange = askByName; // from the list, or when the field is left
part("ask").onsubmit = (event) => {
  event.preventDefault();
  askByName();
};

// The whole page takes a file: one that is dropped beside the box would replace the page.
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    const { files, types } = event.dataTransfer;
    if (!types.includes("Files") && event.target.closest?.("input")) return; // words into a field
    event.preventDefault();
    part("drop").classList.toggle("over", kind === "dragover");
    if (kind !== "drop") return;
    if (files.length) look(files[0]);
    else {
      latest++;
      refuse(words("noFile"));
    }
  });
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) look(event.clipboardData.files[0]);
});

function offerSamples(samples) {
  part("samples").replaceChildren(
    ...samples.map((sample) => {
      const { name } = sample;
      const said = name.replaceAll("_", " ");
      const image = element("img", {
        src: new URL(`${name}-small.webp`, import.meta.url),
        alt: words("sample", { name: said }),
        width: 56,
        height: 56,
      });
      const button = element("button", { type: "button", title: said }, image);
      const brief = { wrong: words("wrongBrief"), none: words("noneBrief") };
      const textContent = brief[verdict(sample)];
      if (textContent) button.append(element("small", { textContent }));
      button.onclick = () => lookAtSample(name);
      return button;
    }),
  );
}

function lineIsFast() {
  const line = navigator.connection; // only some browsers tell
  return Boolean(line) && !line.saveData && line.downlink >= FAST;
}

root.dataset.started = "yes"; // the page's own script may stop waiting for this one
facts.then(
  (facts) => {
    offerSamples(facts.samples);
    layOut(facts);
    part("names").replaceChildren(...facts.classNames.map((value) => element("option", { value })));
    if (latest > 0) return; // the reader has chosen already
    if (lineIsFast()) lookAtSample(facts.samples[0].name);
    else say(words("begin", { size: size() }));
  },
  (error) => refuse(words("reload", { why: error.message })),
);
