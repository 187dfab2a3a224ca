// The detections of a photo, drawn over its tiles: outlines on all of them, names on the photo itself.

const SVG = "http://www.w3.org/2000/svg";
const MOST_NAMED = 8; // of more detections only the chosen one has its name on the photo
const LINE = 1 / 280; // the width of a line on a saved picture, as a part of its size

/**
 * Draws marks over a stage, which shows the whole photo, in place of those before.
 * @param size [H0, W0] of the photo.
 * @param marks [{ corners: [[x, y]] in pixels of the photo, contours of its mask, points, color: [r, g, b], text, chosen }], the
 * chosen one on top.
 * @param named Whether their texts are shown, too.
 */
export function drawMarks(stage, [height, width], marks, named) {
  stage.querySelector(".marks")?.remove();
  if (!marks.length) return;
  const [layer, lines] = [Object.assign(document.createElement("div"), { className: "marks" }), document.createElementNS(SVG, "svg")];
  lines.setAttribute("viewBox", `0 0 ${width} ${height}`);
  lines.setAttribute("preserveAspectRatio", "none");
  const ordered = [...marks].sort((a, b) => a.chosen - b.chosen);
  for (const { corners, contours = [], color, chosen } of ordered) {
    for (const outline of [corners, ...contours]) {
      for (const kind of ["casing", "line"]) {
        const shape = document.createElementNS(SVG, "polygon");
        shape.setAttribute("points", outline.map((point) => point.join()).join(" "));
        shape.setAttribute("class", [kind, chosen && "chosen", outline !== corners && "contour"].filter(Boolean).join(" "));
        if (kind === "line") shape.style.stroke = `rgb(${color})`;
        lines.append(shape);
      }
    }
  }
  layer.append(lines);
  const at = (x, y) => ({ left: `${(100 * x) / width}%`, top: `${(100 * y) / height}%` });
  for (const { points = [], color } of ordered) {
    for (const [x, y] of points) {
      const dot = Object.assign(document.createElement("span"), { className: "dot" });
      Object.assign(dot.style, at(x, y), { background: `rgb(${color})` });
      layer.append(dot);
    }
  }
  stage.append(layer);
  const taken = []; // by tags
  const shown = marks.filter(({ chosen }) => named && (chosen || marks.length <= MOST_NAMED));
  for (const { corners, color, text } of shown.sort((a, b) => b.chosen - a.chosen)) {
    const [low, high] = [Math.min, Math.max].map((end) => [0, 1].map((axis) => end(...corners.map((corner) => corner[axis]))));
    const tag = Object.assign(document.createElement("span"), { className: "tag", textContent: text });
    tag.style.background = `rgb(${color})`;
    layer.append(tag);
    const leftwards = low[0] + high[0] > width; // where there is more room
    const above = low[1] >= 0.1 * height; // else there is no room above the box
    const below = high[1] <= 0.9 * height;
    const free = [[low[1], above], [high[1], !below]].some(([y, up]) =>
      [leftwards, !leftwards].some((left) => {
        const x = left ? high[0] : low[0];
        Object.assign(tag.style, at(x, y), { transform: `translate(${left ? -100 : 0}%, ${up ? -100 : 0}%)` });
        return isFree(tag.getBoundingClientRect(), layer.getBoundingClientRect(), taken);
      }),
    );
    if (free || !taken.length) taken.push(tag.getBoundingClientRect());
    else tag.remove(); // its outline stays, and the list has its name
  }
}

/** Whether a tag lies in the picture, and on no other. */
function isFree(tag, picture, taken) {
  const inside = tag.left >= picture.left - 1 && tag.right <= picture.right + 1;
  return inside && taken.every((other) => tag.right <= other.left || other.right <= tag.left || tag.bottom <= other.top || other.bottom <= tag.top);
}

/** Draws the outline of the chosen mark on a canvas of the photo's own size. */
export function strokeChosen(context, marks) {
  const line = Math.max(2, Math.round(LINE * Math.sqrt(context.canvas.width * context.canvas.height)));
  for (const { corners, contours = [], color } of marks.filter(({ chosen }) => chosen)) {
    context.beginPath();
    for (const outline of [corners, ...contours]) {
      context.moveTo(...outline[0]);
      for (const point of outline) context.lineTo(...point);
      context.closePath();
    }
    for (const [style, width] of [["rgb(0 0 0 / .75)", line + 2], [`rgb(${color})`, line]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: width });
      context.stroke();
    }
  }
}
