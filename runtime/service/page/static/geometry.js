// Where a photo lands in the model's input, and the way back; the same arithmetic as fusioncam's runtime/photos/geometry.py.

/** To the nearest whole number, halves to the even one, as Python rounds. */
export function rint(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

/**
 * Rows and columns of a photo on their way to the model: an axis of `whole` pixels is resized to `resized`, of which
 * `size` are kept, from `start` on. Where the photo is cut before it is resized, these two are no whole numbers.
 * @param photo [H0, W0]
 */
export function axes(photo, { size: sizes, resize, crop_fraction: fraction, crop_rounding: rounding }) {
  const scale = Math.max(sizes[0] / photo[0], sizes[1] / photo[1]);
  const half = (left) => (rounding === "down" ? Math.floor(left / 2) : rint(left / 2));
  return photo.map((whole, i) => {
    const size = sizes[i];
    if (resize === "squash") return { whole, resized: size, start: 0, size };
    if (resize === "crop_first") {
      const length = Math.max(Math.floor((size / scale) * fraction + 1e-6), 1);
      return { whole, resized: (size * whole) / length, start: (half(whole - length) * size) / length, size };
    }
    const resized =
      resize === "squash_crop"
        ? rint(size / fraction)
        : Math.max(size, Math.floor(whole * (scale / fraction) + 1e-6));
    return { whole, resized, start: half(resized - size), size };
  });
}

/** The same axis of the photo when it is shown in so many pixels. */
export const shownIn = (axis, pixels) => ({ ...axis, whole: pixels });

/** [first, end) of the pixels whose centres the model saw; at least one. */
export function seen({ whole, resized, start, size }) {
  const edge = (at) => Math.ceil((2 * at * whole - resized) / (2 * resized));
  const first = edge(start);
  return [first, Math.max(edge(start + size), first + 1)];
}

/** Where the centres of pixels first..end-1 landed between the pixels of the model's input. */
export function taps({ whole, resized, start, size }, [first, end]) {
  const low = new Uint32Array(end - first);
  const high = new Uint32Array(end - first);
  const weight = new Float32Array(end - first);
  for (let i = 0; i < low.length; i++) {
    const at = ((first + i + 0.5) * resized) / whole - 0.5 - start;
    const clipped = Math.min(Math.max(at, 0), size - 1);
    low[i] = Math.floor(clipped);
    high[i] = Math.min(low[i] + 1, size - 1);
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
