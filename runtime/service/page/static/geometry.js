// Where a photo lands in the model's input, and the way back; the same arithmetic as fusioncam's runtime/photos/geometry.py.

/** To the nearest whole number, halves to the even one, as Python rounds. */
export function rint(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

/** Sides of a letterbox as whole numbers. */
const ROUNDINGS = { even: rint, up: (side) => Math.floor(side + 0.5), down: Math.floor };

const half = (left, { crop_rounding }) => (crop_rounding === "down" ? Math.floor(left / 2) : rint(left / 2));

/** An axis by the way of resizing; `cover` and `fit` scale the photo so that it just covers the input, or fits into it. */
const WAYS = {
  squash: ({ whole, size }) => ({ whole, resized: size, start: 0, size }),
  crop({ whole, size, cover }, how) {
    const resized = Math.max(size, Math.floor(whole * (cover / how.crop_fraction) + 1e-6));
    return { whole, resized, start: half(resized - size, how), size };
  },
  squash_crop({ whole, size }, how) {
    const resized = rint(size / how.crop_fraction);
    return { whole, resized, start: half(resized - size, how), size };
  },
  crop_first({ whole, size, cover }, how) {
    const length = Math.max(Math.floor((size / cover) * how.crop_fraction + 1e-6), 1);
    return { whole, resized: (size * whole) / length, start: (half(whole - length, how) * size) / length, size };
  },
  letterbox({ whole, size, fit }, { pad_place, pad_rounding }) {
    const resized = Math.max(ROUNDINGS[pad_rounding](whole * fit), 1);
    const before = pad_place === "centre" ? rint((size - resized) / 2 - 0.1) : 0;
    return { whole, resized, start: 0 - before, size };
  },
};

/**
 * Rows and columns of a photo on their way to the model: an axis of `whole` pixels is resized to `resized`, of which
 * `size` are kept, from `start` on. Where the photo is cut before it is resized, these two are no whole numbers; where it
 * is padded, `start` is negative.
 * @param photo [H0, W0]
 */
export function axes(photo, preprocessing) {
  const factors = photo.map((whole, i) => preprocessing.size[i] / whole);
  const scales = { cover: Math.max(...factors), fit: Math.min(...factors) };
  const way = WAYS[preprocessing.resize];
  return photo.map((whole, i) => way({ whole, size: preprocessing.size[i], ...scales }, preprocessing));
}

/** The same axis of the photo when it is shown in so many pixels. */
export const shownIn = (axis, pixels) => ({ ...axis, whole: pixels });

/** [first, end) of the pixels whose centres the model saw; at least one. */
export function seen({ whole, resized, start, size }) {
  const edge = (at) => Math.ceil((2 * at * whole - resized) / (2 * resized));
  const first = Math.max(edge(start), 0);
  return [first, Math.max(Math.min(edge(start + size), whole), first + 1)];
}

/** Where the centres of pixels first..end-1 landed between the pixels of the model's input. */
export function taps({ whole, resized, start, size }, [first, end]) {
  const low = new Uint32Array(end - first);
  const high = new Uint32Array(end - first);
  const weight = new Float32Array(end - first);
  const least = Math.max(Math.round(-start), 0); // of the pixels that show the photo, and no padding
  const last = Math.min(Math.round(resized - start), size) - 1;
  for (let i = 0; i < low.length; i++) {
    const at = ((first + i + 0.5) * resized) / whole - 0.5 - start;
    const clipped = Math.min(Math.max(at, least), last);
    low[i] = Math.floor(clipped);
    high[i] = Math.min(low[i] + 1, last);
    weight[i] = clipped - low[i];
  }
  return { low, high, weight };
}

const { fround } = Math; // NumPy computes in float32: rounded like it, pixels come out the same

/** A map at the model's size, bilinear between pixel centres, at the pixels that the taps of rows and columns name. */
export function sampled(map, width, rows, columns) {
  const out = new Float32Array(rows.low.length * columns.low.length);
  const back = columns.weight.map((weight) => 1 - weight);
  const mixed = (one, share, two, other) => fround(fround(one * share) + fround(two * other));
  let i = 0;
  for (let y = 0; y < rows.low.length; y++) {
    const above = rows.low[y] * width;
    const below = rows.high[y] * width;
    const down = rows.weight[y];
    const up = fround(1 - down);
    for (let x = 0; x < columns.low.length; x++, i++) {
      const low = columns.low[x];
      const high = columns.high[x];
      const top = mixed(map[above + low], back[x], map[above + high], columns.weight[x]);
      const bottom = mixed(map[below + low], back[x], map[below + high], columns.weight[x]);
      out[i] = mixed(top, up, bottom, down);
    }
  }
  return out;
}
