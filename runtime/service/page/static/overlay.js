// A map laid over a photo, by the same rule as fusioncam's kernels/reference.py `overlay`. Pixels are RGBA, 8 bits.

import { sampled, seen, taps } from "./geometry.js";

const { fround } = Math; // as in geometry.js

/** Mutes the colours of a photo: unmuted, a red bird would look like evidence. */
export function muted(photo) {
  const out = new Uint8ClampedArray(photo.length);
  for (let i = 0; i < photo.length; i += 4) {
    const grey = (9798 * photo[i] + 19235 * photo[i + 1] + 3735 * photo[i + 2] + (1 << 14)) >> 15;
    for (let c = i; c < i + 3; c++) out[c] = Math.floor((7 * photo[c] + 13 * grey + 10) / 20);
    out[i + 3] = 255;
  }
  return out;
}

/** Fades the parts of a photo that the model did not see. */
export function faded(photo) {
  const out = new Uint8ClampedArray(photo.length);
  for (let i = 0; i < photo.length; i += 4) {
    for (let c = i; c < i + 3; c++) out[c] = Math.floor(photo[c] / 3) + 170;
    out[i + 3] = 255;
  }
  return out;
}

/**
 * Lays colours over muted pixels. Opacity grows with the map, so that the photo stays visible where nothing is salient.
 * @param values Of the map, one per pixel, in [0, 1].
 * @param colors (256) x [r, g, b].
 * @param opacity Of the colours where the map is 0.4 or more.
 */
export function overlay(ground, values, colors, opacity) {
  const out = new Uint8ClampedArray(ground); // which rounds halves to even and clips, as NumPy's rint and clip do
  const step = new Uint8ClampedArray(1);
  const most = fround(opacity);
  for (let i = 0, p = 0; i < values.length; i++, p += 4) {
    step[0] = fround(values[i] * 255);
    const color = colors[step[0]];
    const alpha = fround(most * fround(Math.min(Math.max(2.5 * values[i], 0), 1)));
    for (let c = 0; c < 3; c++) out[p + c] = fround(ground[p + c] + fround(alpha * (color[c] - ground[p + c])));
  }
  return out;
}

/**
 * Draws the border of a region into a picture: white within, dark around, so that it is seen on any ground.
 * @param inside Values of the pixels from row `top` and column `left` on, `width` in a row: in the region from 0.5 on.
 */
function drawBorder(image, inside, width, top, left) {
  const height = inside.length / width;
  const thick = Math.max(1, Math.round(Math.max(image.width, image.height) / 150));
  const within = (end, at) => Math.min(Math.max(at, 0), end - 1);
  const isIn = (x, y) => inside[within(height, y) * width + within(width, x)] >= 0.5;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = isIn(x, y);
      const by = here ? thick : 1;
      if ([[by, 0], [-by, 0], [0, by], [0, -by]].every(([dx, dy]) => isIn(x + dx, y + dy) === here)) continue;
      const p = 4 * ((y + top) * image.width + left + x);
      image.data.fill(here ? 255 : 20, p, p + 3);
    }
  }
}

/**
 * A photo ready to have maps laid over it, in a piece of so many rows from `top` on.
 * @param image ImageData of these rows.
 * @param places [rows, columns] of `geometry.axes`, of the whole photo.
 */
export class Ground {
  constructor(image, places, top = 0) {
    const [rows, columns] = places;
    const [first, end] = seen(rows);
    this.image = image;
    this.columns = seen(columns);
    this.rows = [Math.max(first, top), Math.min(end, top + image.height)];
    this.top = top;
    this.faded = faded(image.data);
    this.empty = this.rows[0] >= this.rows[1];
    this.blank = new Float32Array(0);
    if (this.empty) return;
    this.taps = [taps(rows, this.rows), taps(columns, this.columns)];
    this.muted = muted(this.#cut(image.data));
    this.blank = new Float32Array(this.muted.length / 4); // an empty map
  }

  /** The values of a map at the pixels that the model saw. */
  values(map, width) {
    return this.empty ? this.blank : sampled(map, width, ...this.taps);
  }

  /** ImageData of the photo with values laid over the part that the model saw. */
  painted(values, colors, opacity) {
    const { width, height } = this.image;
    const out = new ImageData(new Uint8ClampedArray(this.faded), width, height);
    if (this.empty) return out;
    const part = overlay(this.muted, values, colors, opacity);
    const [left, right] = this.columns;
    const row = 4 * (right - left);
    for (let y = this.rows[0], at = 0; y < this.rows[1]; y++, at += row) {
      out.data.set(part.subarray(at, at + row), 4 * ((y - this.top) * width + left));
    }
    return out;
  }

  /** ImageData with the border of a region, given by its values as `values` makes them. */
  outlined(image, inside) {
    const out = new ImageData(new Uint8ClampedArray(image.data), image.width, image.height);
    const [left, right] = this.columns;
    if (!this.empty) drawBorder(out, inside, right - left, this.rows[0] - this.top, left);
    return out;
  }

  /** The pixels that the model saw, without those around. */
  #cut(data) {
    const [left, right] = this.columns;
    const row = 4 * (right - left);
    const out = new Uint8ClampedArray(row * (this.rows[1] - this.rows[0]));
    for (let y = this.rows[0], at = 0; y < this.rows[1]; y++, at += row) {
      const start = 4 * ((y - this.top) * this.image.width + left);
      out.set(data.subarray(start, start + row), at);
    }
    return out;
  }
}
