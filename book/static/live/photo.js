// From a picture to what the network sees, as helpers/networks/images.py and preprocess.py do it
// in Python, with Pillow.

import { Refusal } from "./load.js";

// rows decoded at a time, so that a large photo never lies in memory as pixels twice
const BAND = 256;
const MOST_BYTES = 30e6;

/** A file as an ImageBitmap, upright; its size is read, and judged, before a pixel is decoded. */
export async function decode(file, facts) {
  if (file.size > MOST_BYTES) {
    const [size, most] = [file.size / 1e6, MOST_BYTES / 1e6].map((bytes) => bytes.toFixed(0));
    throw new Refusal(words("fileTooLarge", { size, most }));
  }
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) =>
      Object.assign(image, { onload: resolve, onerror: reject, src: address }),
    );
    const sentence = objection(image.naturalWidth, image.naturalHeight, facts);
    if (sentence) throw new Refusal(sentence);
    const picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
    const orientation = await ignoredOrientation(file);
    return orientation > 1 ? turned(picture, orientation) : picture;
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(words("noPicture"));
  } finally {
    URL.revokeObjectURL(address);
  }
}

/**
 * What a photo is refused for, in a sentence, or "" if it can be used; as helpers.load_photo and
 * Preprocess.
 */
function objection(width, height, facts) {
  const most = facts.mostPixels;
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  const size = `${width}×${height}`;
  if (width * height > most)
    return words("tooManyPixels", { size, most: most / 1e6, man: most / 1e4 });
  if (short < facts.fewestPixelsASide)
    return words("tooFewPixels", { size, least: facts.fewestPixelsASide });
  if ((long / short) * facts.resize ** 2 > most) return words("tooLong", { size });
  return "";
}

/**
 * The central square of a photo at the network's size: RGB bytes, crop × crop × 3.
 * Horizontal pass, then vertical pass, each rounded to bytes, as Pillow does.
 */
export function shrink(picture, { resize, crop }) {
  const { width, height } = picture;
  const short = Math.min(width, height);
  const columns = window1d(width, Math.trunc((resize * width) / short), crop);
  const rows = window1d(height, Math.trunc((resize * height) / short), crop);
  const top = rows[0].first;
  const bottom = rows.at(-1).first + rows.at(-1).weights.length;
  const narrow = new Uint8ClampedArray((bottom - top) * crop * 3);
  const canvas = new OffscreenCanvas(width, Math.min(BAND, height));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  for (let y = top; y < bottom; y += BAND) {
    const count = Math.min(BAND, bottom - y);
    pen.fillStyle = "white"; // transparency is laid on white
    pen.fillRect(0, 0, width, count);
    pen.drawImage(picture, 0, y, width, count, 0, 0, width, count);
    const { data } = pen.getImageData(0, 0, width, count);
    for (let row = 0; row < count; row++)
      columns.forEach((tap, x) =>
        mix(
          data,
          4 * (row * width + tap.first),
          4,
          tap.weights,
          narrow,
          3 * ((y - top + row) * crop + x),
        ),
      );
  }
  const square = new Uint8ClampedArray(crop * crop * 3);
  rows.forEach((tap, y) => {
    for (let x = 0; x < crop; x++)
      mix(
        narrow,
        3 * ((tap.first - top) * crop + x),
        3 * crop,
        tap.weights,
        square,
        3 * (y * crop + x),
      );
  });
  return square;
}

/** RGB bytes, size × size × 3, to the network's input: float32, 3 × size × size, normalised. */
export function normalise(square, { crop, mean, std }) {
  const photo = new Float32Array(square.length);
  for (let i = 0; i < crop * crop; i++)
    for (let c = 0; c < 3; c++)
      photo[c * crop * crop + i] = (square[3 * i + c] / 255 - mean[c]) / std[c];
  return photo;
}

/** The weighted sum of RGB pixels `step` bytes apart, from `at`, written to `out` at `to`. */
function mix(data, at, step, weights, out, to) {
  let r = 0;
  let g = 0;
  let b = 0;
  for (const weight of weights) {
    r += weight * data[at];
    g += weight * data[at + 1];
    b += weight * data[at + 2];
    at += step;
  }
  out[to] = r;
  out[to + 1] = g;
  out[to + 2] = b;
}

/**
 * How the central `crop` of `to` pixels are made from `from` pixels: for each the first pixel it
 * reads, and weights. A triangle as wide as the scale (Pillow's BILINEAR), so that shrinking
 * averages instead of skipping.
 */
function window1d(from, to, crop) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  const start = roundHalfEven((to - crop) / 2);
  return Array.from({ length: crop }, (_, i) => {
    const centre = (start + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(from, Math.trunc(centre + support + 0.5)) - first;
    const triangle = Array.from({ length: count }, (_, k) =>
      Math.max(0, 1 - Math.abs((first + k + 0.5 - centre) / support)),
    );
    const sum = triangle.reduce((a, b) => a + b, 0);
    return { first, weights: triangle.map((weight) => weight / sum) };
  });
}

/** Python's round(), which torchvision's centre crop uses. */
function roundHalfEven(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 ? up - 1 : up;
}

/** Two pixels beside each other, to be shown above each other by their EXIF data, as WebP. */
const TURNED_WEBP =
  "UklGRlIAAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TBEAAAAvAQAAAAfQ//73v/+BiOh/AABFWElGGgAAAE1NACoA" +
  "AAAIAAEBEgADAAAAAQAGAAAAAAAA";

/**
 * The EXIF orientation of a file, 1 to 8, where this browser does not heed it: they all do for
 * JPEG and PNG, not all for WebP. Else 1.
 */
async function ignoredOrientation(file) {
  const bytes = new DataView(await file.arrayBuffer());
  const orientation = webpOrientation(bytes);
  if (orientation === 1) return 1;
  const probe = Uint8Array.from(atob(TURNED_WEBP), (letter) => letter.charCodeAt(0));
  const { width } = await createImageBitmap(new Blob([probe], { type: "image/webp" }));
  return width === 1 ? 1 : orientation;
}

/** The EXIF orientation that stands in a WebP file; 1 if none does, or if it is no WebP. */
function webpOrientation(bytes) {
  const word = (at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => bytes.getUint8(at + i)));
  try {
    if (word(0) !== "RIFF" || word(8) !== "WEBP") return 1;
    let at = 12; // chunks: four letters, a length, and that many bytes, made even
    while (word(at) !== "EXIF") at += 8 + 2 * Math.ceil(bytes.getUint32(at + 4, true) / 2);
    const start = at + 8 + (word(at + 8) === "Exif" ? 6 : 0);
    const little = word(start).startsWith("II");
    const list = start + bytes.getUint32(start + 4, little);
    for (let i = 0; i < bytes.getUint16(list, little); i++) {
      const entry = list + 2 + 12 * i;
      if (bytes.getUint16(entry, little) !== 0x0112) continue;
      const value = bytes.getUint16(entry + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the file ended before an orientation came
  }
  return 1;
}

/** A picture turned and mirrored as its EXIF orientation, 2 to 8, asks for. */
function turned(picture, orientation) {
  const { width: w, height: h } = picture;
  const matrix = {
    2: [-1, 0, 0, 1, w, 0],
    3: [-1, 0, 0, -1, w, h],
    4: [1, 0, 0, -1, 0, h],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, h, 0],
    7: [0, -1, -1, 0, h, w],
    8: [0, -1, 1, 0, 0, w],
  }[orientation];
  const canvas = orientation > 4 ? new OffscreenCanvas(h, w) : new OffscreenCanvas(w, h);
  const pen = canvas.getContext("2d");
  pen.setTransform(...matrix);
  pen.drawImage(picture, 0, 0);
  picture.close();
  return canvas.transferToImageBitmap();
}
