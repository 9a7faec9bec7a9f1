// From maps to pictures, as helpers/scaling.py and helpers/plotting.py do it in Python.

/** numpy.percentile, linear between two values. */
function percentile(values, share) {
  const sorted = Float32Array.from(values).sort();
  const place = (share / 100) * (sorted.length - 1);
  const below = Math.floor(place);
  return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

/** A map >= 0 divided by its largest value; an all-zero map stays zero. */
export function byMax(map) {
  const largest = map.reduce((a, b) => Math.max(a, b), 0);
  return largest > 0 ? map.map((value) => value / largest) : map;
}

/**
 * A signed map divided by the 99.5th percentile of its absolute values, the rest clipped:
 * [0, 1], zero at 0.5.
 */
export function signed(map) {
  const amounts = map.map(Math.abs);
  const limit = percentile(amounts, 99.5) || amounts.reduce((a, b) => Math.max(a, b), 0);
  return limit > 0
    ? map.map((value) => Math.min(1, Math.max(-1, value / limit)) / 2 + 0.5)
    : map.map(() => 0.5);
}

/** Pixels of the photo, RGB bytes. */
export function photoPicture(square, size) {
  return picture(size, (i, c) => square[3 * i + c]);
}

/**
 * A map of size × size in [0, 1], in colours, over the photo:
 * (1 - strength) * photo + strength * colours.
 */
export function overlay(square, map, size, strength, heat) {
  return picture(
    size,
    (i, c) =>
      (1 - strength) * square[3 * i + c] + strength * heat[3 * Math.round(map[i] * 255) + c],
  );
}

/** A map 3 × size × size in [0, 1] as it is, each channel a colour. */
export function planes(map, size) {
  return picture(size, (i, c) => 255 * map[c * size * size + i]);
}

function picture(size, byte) {
  const image = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = byte(i, c);
    image.data[4 * i + 3] = 255;
  }
  return image;
}
