// Files for the user: pictures at the photo's own resolution, and arrays.

import { axes } from "./geometry.js";
import { strokeChosen } from "./marks.js";
import { npz } from "./npz.js";
import { Ground } from "./overlay.js";
import { decode, makeCanvas } from "./photo.js";

const BAND = 1 << 20; // pixels painted at a time

/** Offers a file for download. */
export function offer(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** All maps as they came, at the size of the model's input. */
export const saveMaps = (maps, stem) => offer(npz(maps), `${stem}.npz`);

/**
 * A map over the whole photo, as PNG.
 * @param photo File or blob.
 * @param map { shape: [H, W], data }
 * @param marks Of detections, see `drawMarks`.
 */
export async function savePicture(photo, map, preprocessing, colors, opacity, marks, name) {
  const bitmap = await decode(photo);
  const { width, height } = bitmap;
  const canvas = makeCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const places = axes([height, width], preprocessing);
  const band = Math.max(1, Math.floor(BAND / width));
  for (let top = 0; top < height; top += band) {
    const ground = new Ground(context.getImageData(0, top, width, Math.min(band, height - top)), places, top);
    context.putImageData(ground.painted(ground.values(map.data, map.shape[1]), colors, opacity), 0, top);
    await new Promise((done) => setTimeout(done)); // the page stays alive
  }
  strokeChosen(context, marks);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (blob === null) throw new Error("the picture is too large for this browser: use `fusioncam explain --separate`");
  offer(blob, name);
}
