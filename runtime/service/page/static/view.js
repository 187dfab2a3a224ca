// How the pictures are seen: the bar of colours, the opacity, and whether they are in sight.

const $ = (id) => document.getElementById(id);

/** Whether less motion is wanted. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Brings the pictures into sight where they are not, as on a phone. */
export function reveal() {
  if ($("tiles").hidden) return;
  const { top, bottom } = $("tiles").getBoundingClientRect();
  if (top < 0.75 * innerHeight && bottom > 0) return;
  $("result").scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
}

/** Draws the colours from 0 to 1. */
export function ramp(colors) {
  const image = new ImageData(colors.length, 1);
  image.data.set(colors.flatMap((color) => [...color, 255]));
  $("ramp").getContext("2d").putImageData(image, 0, 0);
}

/** Lets the user choose the opacity of the colours. @param opacity The first. @param changed (opacity). */
export function watchOpacity(opacity, changed) {
  const look = (percent) => {
    $("opacity").value = percent;
    $("opacity-shown").textContent = `${percent} %`;
    changed(percent / 100);
  };
  $("opacity").addEventListener("input", () => look(Number($("opacity").value)));
  look(Math.round(100 * opacity));
}
