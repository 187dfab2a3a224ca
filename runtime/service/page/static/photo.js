// Reading a picture's file for display: turned as its EXIF data say, in the file's own colours, as the model sees it.

const MOST_SHOWN = 768; // pixels of the longer side on the screen; the file itself is sent, and saved in its own size

/** @returns {Promise<ImageBitmap>} whole; to be closed. */
export const decode = (file) =>
  createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" });

export function makeCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/**
 * A photo to look at.
 * @param inputSize [H, W] of the blank picture that stands in where the browser cannot read the file.
 * @returns { size: [H0, W0], shown: ImageData, readable }
 */
export async function readPhoto(file, inputSize) {
  const bitmap = await decode(file).catch(() => null);
  if (bitmap === null) return { size: inputSize, shown: blank(inputSize), readable: false };
  const scale = Math.min(1, MOST_SHOWN / Math.max(bitmap.width, bitmap.height));
  const canvas = makeCanvas(...[bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * scale))));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const shown = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 3; i < shown.data.length; i += 4) shown.data[i] = 255; // the model sees no transparency
  const size = [bitmap.height, bitmap.width];
  bitmap.close();
  return { size, shown, readable: true };
}

function blank([height, width]) {
  const image = new ImageData(width, height);
  image.data.fill(255);
  return image;
}
