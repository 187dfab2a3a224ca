// A detector's targets: how its detections are asked for, where they lie, and what is said of them.

import { chance } from "./words.js";

const $ = (id) => document.getElementById(id);
const LEADS = { score: "What speaks for", box: "What made the edges of", both: "What made" };
const THRESHOLDS = ["conf", "iou"]; // of score and overlap
const VISIBLE = 0.5; // how likely a keypoint is visible, from which on it is drawn

export class DetectionOptions {
  #usual = null; // the detector of the chosen model, with its own thresholds
  #moved = new Set(); // the thresholds that the user has set

  /** @param changed () called after each choice of the user. */
  constructor(changed) {
    for (const name of ["by", "levels"]) $(name).addEventListener("change", changed);
    for (const name of THRESHOLDS) {
      $(name).addEventListener("input", () => this.#show());
      $(name).addEventListener("change", () => {
        this.#moved.add(name);
        changed();
      });
    }
  }

  /** Takes the configuration of the chosen model. */
  describe({ detector, levels }) {
    $("detect-part").hidden = !detector;
    if (!detector || this.#usual === detector) return;
    this.#usual = detector;
    this.#moved.clear();
    for (const name of THRESHOLDS) $(name).value = 100 * detector[name];
    $("iou-part").hidden = !detector.nms;
    $("levels-part").hidden = levels < 2;
    if (levels < 2) $("levels").value = "own";
    this.#show();
  }

  /** What all detections of a photo are asked by: what the user has set, as a slider knows whole percents only. */
  get listing() {
    return Object.fromEntries([...this.#moved].map((name) => [name, Number($(name).value) / 100]));
  }

  /** What the map of a detection is asked by. */
  get question() {
    return { by: this.by, levels: $("levels").value };
  }

  get by() {
    return $("by").value;
  }

  get lead() {
    return LEADS[this.by];
  }

  #show() {
    for (const name of THRESHOLDS) $(`${name}-shown`).textContent = `${$(name).value} %`;
  }
}

/** A row of a detector's figures, of the i-th detection. */
export function detectionRow({ label, box, detection_score: score, detections }, i) {
  const [found] = JSON.parse(detections.data[i]);
  const [x1, y1, x2, y2] = Array.from(box.data.slice(4 * i, 4 * i + 4));
  return {
    name: label.data[i],
    chance: score.data[i],
    box: [x1, y1, x2, y2],
    corners: found?.corners ?? [[x1, y1], [x2, y1], [x2, y2], [x1, y2]],
    contours: found?.segmentation?.map((contour) => Array.from({ length: contour.length / 2 }, (_, k) => contour.slice(2 * k, 2 * k + 2))),
    points: found?.keypoints?.filter(([, , visible = 1]) => visible >= VISIBLE).map(([x, y]) => [x, y]),
  };
}

/** The number of the smallest detection that holds a point of the photo; -1 for none. */
export function detectionAt(rows, [x, y]) {
  const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const holds = ({ box: [x1, y1, x2, y2] }) => x1 <= x && x <= x2 && y1 <= y && y <= y2;
  const found = rows.map((row, i) => [i, row]).filter(([, row]) => holds(row)).sort((a, b) => area(a[1]) - area(b[1]));
  return found[0]?.[0] ?? -1;
}

/** What a row says of its box. */
export function detectionText({ chance: score, box: [x1, y1, x2, y2] }) {
  return `${chance(score)} sure, ${Math.round(x2 - x1)} × ${Math.round(y2 - y1)} pixels at ${Math.round(x1)}, ${Math.round(y1)}`;
}

/** The rows as `drawMarks` takes them. @param colors Of classes, one after the other. */
export const marksOf = (rows, colors, chosen) =>
  rows.map((row, i) => ({
    ...row, color: colors[row.classIndex % colors.length], text: `${row.name} ${Math.round(100 * row.chance)} %`, chosen: i === chosen,
  }));
