// Files of this site, for the page and for its worker. What goes wrong is said in a sentence.

/** Something the reader should know, in a sentence. */
export class Refusal extends Error {}

/**
 * The bytes of a file. `heard` is told the length of each piece that arrives. A file that is
 * missing, and a line on which nothing arrives for `patience` seconds, are refused.
 */
export async function load(name, patience, heard = () => {}, stop = new AbortController()) {
  let timer;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), 1000 * patience);
  };
  const pieces = [];
  try {
    wait();
    const answer = await fetch(new URL(name, import.meta.url), { signal: stop.signal });
    if (!answer.ok) throw new Refusal(words("fileMissing", { name, status: answer.status }));
    const reader = answer.body.getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      wait();
      pieces.push(piece.value);
      heard(piece.value.length);
    }
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(
      stop.signal.aborted
        ? words("lineStalled", { name, seconds: patience })
        : words("lineDown", { name }),
    );
  } finally {
    clearTimeout(timer);
  }
  return new Blob(pieces).arrayBuffer();
}

/** The content of a JSON file. */
export async function loadFacts(name, patience) {
  return JSON.parse(new TextDecoder().decode(await load(name, patience)));
}
