// Runs the network, and every method's way back, beside the page, so that the page stays alive.
// Nothing leaves this computer.
// In: {photo: ImageBitmap, ticket} or {wanted: class, ticket}.
// Out: {facts}, {done, total}, {ready}, results and {sentence}.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.js";
import { normalise, shrink } from "./photo.js";

const RUNTIME = "onnxruntime/ort-wasm-simd-threaded.wasm";
const RUNTIME_BYTES = 14239897;
let facts;
let square;
let photo;

/** The bytes of a file of this site; `step` hears of each piece that arrives. */
async function load(name, step, stop) {
  const answer = await fetch(new URL(name, import.meta.url), { signal: stop?.signal });
  if (!answer.ok) throw new Error(`${name} is missing on the server (${answer.status})`);
  const pieces = [];
  const reader = answer.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    step(piece.value.length);
  }
  return new Blob(pieces).arrayBuffer();
}

const session = (async () => {
  facts = JSON.parse(new TextDecoder().decode(await load("model.json", () => {})));
  postMessage({ facts });
  let done = 0;
  const total = facts.bytes + RUNTIME_BYTES;
  const step = (count) => postMessage({ done: (done += count), total });
  const stop = new AbortController();
  const files = Promise.all([load(RUNTIME, step, stop), load("model.onnx", step, stop)]);
  files.catch(() => stop.abort()); // without one, the other is of no use
  const [runtime, graph] = await files;
  ort.env.wasm.wasmBinary = runtime;
  ort.env.wasm.numThreads = 1; // more would need special headers from the server
  const made = await ort.InferenceSession.create(new Uint8Array(graph), {
    executionProviders: ["wasm"],
  });
  postMessage({ ready: true });
  return made;
})();

/** One run of the graph: scores, the class explained, and all maps. */
async function explain(wanted) {
  const model = await session;
  const outputs = await model.run({
    photo: new ort.Tensor("float32", photo, [1, 3, facts.crop, facts.crop]),
    class: new ort.Tensor("int64", [BigInt(wanted)], [1]),
  });
  const maps = Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]),
  );
  return { ...maps, explained: Number(maps.explained[0]) };
}

async function answer({ photo: bitmap, wanted = -1, ticket }) {
  const start = performance.now();
  await session;
  if (bitmap) {
    square = shrink(bitmap, facts);
    photo = normalise(square, facts);
    bitmap.close();
  }
  postMessage({
    ticket,
    square,
    ...(await explain(wanted)),
    seconds: (performance.now() - start) / 1000,
  });
}

const complain = (error) =>
  postMessage({
    sentence: `It did not work: ${error.message ?? error}. Loading the page again may help.`,
  });
let last = session.catch(complain); // one after the other: the runtime takes one question at a time
onmessage = ({ data }) => (last = last.then(() => answer(data)).catch(complain));
