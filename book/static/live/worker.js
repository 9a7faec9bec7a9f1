// Runs the network, and every method's way back, beside the page, so that the page stays alive.
// Nothing leaves this computer.
// In: first {facts, patience, language}; then questions {picture: ImageBitmap} or {square: RGB
// bytes}, with {sample: its name, if it is one, wanted: class or -1, ticket}. Out: {started},
// {done, total}, {ready}; for the latest question {ticket, square, sample} with its results or
// {ticket, sentence}. No question depends on an earlier one.

import "../words.js";
import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";
import { load, Refusal } from "./load.js";
import { normalise, shrink } from "./photo.js";

const RUNTIME = "onnxruntime/ort-wasm-simd-threaded.wasm";
const RUNTIME_BYTES = 14239897;
const MOST_THREADS = 4; // the layers are small: more have nothing to do

let facts;
let patience; // seconds without a byte after which a download counts as stalled
let session; // the runtime with the network in it, as a promise; undefined after a failure
let newest; // ticket of the latest question

async function prepare() {
  const total = facts.bytes + RUNTIME_BYTES;
  let done = 0;
  const heard = (count) => postMessage({ done: (done += count), total });
  const stop = new AbortController();
  const files = [RUNTIME, "model.onnx"].map((name) => load(name, patience, heard, stop));
  Promise.all(files).catch(() => stop.abort()); // without one, the other is of no use
  const [runtime, graph] = await Promise.all(files);
  ort.env.wasm.wasmBinary = runtime;
  // threads need memory that they share, which a server has to allow by two headers
  ort.env.wasm.numThreads = self.crossOriginIsolated
    ? Math.min(MOST_THREADS, navigator.hardwareConcurrency)
    : 1;
  // Not WebGPU: in this version it has no max pooling that tells its switches, and the graph stops
  // there; its runtime would be 27 MB instead of 14 (7 instead of 4 packed).
  const made = await ort.InferenceSession.create(new Uint8Array(graph), {
    executionProviders: ["wasm"],
  });
  postMessage({ ready: true, threads: ort.env.wasm.numThreads });
  return made;
}

/** One run of the graph: scores, the class explained, and all maps. */
async function explain(model, square, wanted) {
  const photo = normalise(square, facts);
  const outputs = await model.run({
    photo: new ort.Tensor("float32", photo, [1, 3, facts.crop, facts.crop]),
    class: new ort.Tensor("int64", [BigInt(wanted)], [1]),
  });
  const maps = Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]),
  );
  return { ...maps, explained: Number(maps.explained[0]) };
}

async function answer({ picture, square, sample, wanted, ticket }) {
  try {
    session ??= prepare();
    const model = await session;
    if (ticket !== newest) return;
    const start = performance.now();
    square ??= shrink(picture, facts);
    const results = await explain(model, square, wanted);
    const seconds = (performance.now() - start) / 1000;
    postMessage({ ticket, square, sample, ...results, seconds });
  } catch (error) {
    session = undefined; // the next question tries again
    const what = error instanceof Refusal ? error.message : words("failed", { error });
    postMessage({ ticket, sentence: words("again", { why: what }) });
  } finally {
    picture?.close();
  }
}

let last = Promise.resolve(); // one after the other: the runtime takes one question at a time
onmessage = ({ data }) => {
  if (data.facts) {
    ({ facts, patience } = data);
    words.language = data.language;
    return;
  }
  newest = data.ticket;
  last = last.then(() => answer(data));
};
postMessage({ started: true });
