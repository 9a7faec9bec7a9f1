// From a picture to what the network sees, as helpers/images.py does it in Python with Pillow.

// rows decoded at a time, so that a large photo never lies in memory as pixels twice
const BAND = 256;

/**
 * What a photo is refused for, in a sentence, or "" if it can be used; as helpers.load_photo and
 * Preprocess.
 */
export function objection(width, height, facts) {
  const most = facts.mostPixels;
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  const size = `${width}×${height}`;
  if (width * height > most)
    return (
      `The picture has ${size} pixels; at most ${most / 1e6} million are read. ` +
      "Scale it down first."
    );
  if (short < facts.fewestPixelsASide)
    return `The picture has ${size} pixels; at least ${facts.fewestPixelsASide} a side are needed.`;
  if ((long / short) * facts.resize ** 2 > most)
    return `The picture is too long for its width (${size} pixels). Crop it first.`;
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
