// Targets that are no class of a picture: regions, heat maps, and likeness to a second picture.

import { DetectionOptions, detectionAt, detectionRow, detectionText } from "./detections.js";
import { samples } from "./files.js";
import { chance } from "./words.js";

const $ = (id) => document.getElementById(id);
const TITLES = { segment: "Region", heat: "Heat map", embed: "Compare with", detect: "Detections" };
const HINTS = {
  segment: "The share of the picture, and how sure the model is there. Click the photo to choose the part at that place",
  detect: "Click a box to explain it",
};
const FIGURES = ["class_index", "score", "confidence", "title"];

/** What a model is asked: `vector` (a class or a value), `segment`, `heat`, `detect` or `embed`. */
export function kindOf({ task, targets }) {
  if (targets.includes("box")) return "detect";
  if (targets.includes("reference")) return "embed";
  return targets.includes("region") ? (task === "segment" ? "segment" : "heat") : "vector";
}

/** The outputs beside maps. */
export const figuresOf = (config) =>
  ({
    vector: ["probabilities", "class_index"], embed: FIGURES,
    detect: [...FIGURES, "label", "box", "detection_score", "detections"],
  }[kindOf(config)] ?? [...FIGURES, "area", "region"]);

/** Whether the targets of a photo are listed before one of them is explained. */
export const isListed = (kind) => ["segment", "heat", "detect"].includes(kind);

/** The rows of an answer's figures: [{ title, classIndex, score, confidence, area }]. */
export function rowsOf(figures) {
  const { title, class_index: index, score, confidence, area, box } = figures;
  return title.data.map((name, i) => ({
    title: name, classIndex: index.data[i], score: score.data[i], confidence: confidence.data[i], area: area?.data[i],
    ...(box && detectionRow(figures, i)),
  }));
}

/** What a row says beside its title. */
export function figuresText(row, kind) {
  const { confidence, score, area } = row;
  if (kind === "detect") return detectionText(row);
  if (kind === "embed") return `Cosine ${score.toFixed(3)}: 1 is the same, 0 has nothing in common`;
  if (kind === "heat") return `Mean ${score.toLocaleString("en", { maximumSignificantDigits: 4 })}`;
  return `${chance(confidence)} on average, over ${chance(area)} of what the model sees`;
}

function figuresOfRow(row, kind) {
  if (kind === "detect") return chance(row.chance);
  return kind === "segment" ? `${chance(row.area)} · ${chance(row.confidence)} sure` : row.score.toPrecision(3);
}

export class Targets {
  rows = [];
  reference = null; // { blob, name, number }: the picture to compare with
  #files = 0;
  #kind = "vector";

  /** @param choose (target) => void: after each choice of the user. @param load (url): a promise of a file's blob. */
  constructor(choose, load) {
    this.choose = choose;
    this.load = load;
    this.detections = new DetectionOptions(() => choose(null));
    $("down").addEventListener("change", () => choose(null));
    $("reference").addEventListener("change", ({ target }) => {
      const [blob] = target.files;
      target.value = "";
      if (blob) this.compare(blob, blob.name);
    });
  }

  /** Takes the configuration of the chosen model. */
  describe(config) {
    const kind = kindOf(config);
    if (kind !== this.#kind) this.rows = [];
    this.#kind = kind;
    const values = kind === "heat" || (config.task === "value" && config.classes > 2);
    $("down-part").hidden = !values;
    (kind === "vector" ? $("class-part") : $("target-part")).append($("down-part"));
    if (!values) $("down").checked = false;
    this.detections.describe(config);
    $("reference-part").hidden = kind !== "embed";
    $("target-title").textContent = TITLES[kind] ?? "";
    $("target-hint").hidden = !(kind in HINTS);
    $("target-hint").textContent = `${HINTS[kind]}, or go there with the arrow keys and press Enter.`;
    $("target-part").hidden = kind === "vector" || (kind !== "embed" && !this.rows.length);
  }

  get down() {
    return $("down").checked;
  }

  /** Offers samples as pictures to compare with. */
  offer(pictures) {
    samples($("reference-samples"), pictures, this.load, (picture) => this.take(picture));
  }

  /** Compares with a sample. */
  async take({ url, name }) {
    this.compare(await this.load(url), name);
  }

  compare(blob, name) {
    this.reference = { blob, name, number: ++this.#files };
    URL.revokeObjectURL($("reference-shown").src);
    $("reference-shown").src = URL.createObjectURL(blob);
    $("reference-name").textContent = name;
    $("reference-now").hidden = false;
    this.choose({ reference: this.#files });
  }

  /** Parameters by which the targets of a photo are listed. */
  get listing() {
    return this.#kind === "detect" ? this.detections.listing : {};
  }

  /** The request's target of the i-th row. */
  asked(i) {
    if (this.#kind === "detect") return { detection: i };
    return { [this.#kind === "heat" ? "value" : "class_index"]: this.rows[i].classIndex };
  }

  /** The whole target of a request, of what the user chose; the first of the photo where that is nothing. */
  request(chosen) {
    if (this.#kind === "detect") {
      const target = chosen.detection < this.rows.length ? chosen : this.asked(0);
      return { ...target, ...this.listing, ...this.detections.question };
    }
    const target = Object.keys(chosen).length || !this.rows.length ? chosen : this.asked(0);
    return this.down ? { value: Math.max(target.value ?? target.class_index ?? 0, 0), down: true } : target;
  }

  /** The target at a point of the photo that the user picks; null for none. */
  at(point) {
    if (this.#kind === "segment") return { point };
    const found = this.#kind === "detect" ? detectionAt(this.rows, point) : -1;
    return found < 0 ? null : this.asked(found);
  }

  /** The number of the row that a request is about; -1 where a part was picked. */
  chosen(target, row) {
    if (this.#kind === "detect") return target.detection;
    return "point" in target ? -1 : this.rows.findIndex(({ classIndex }) => classIndex === row.classIndex);
  }

  /** Shows the rows, and which of them is explained. */
  show(chosen) {
    const { rows } = this;
    const focused = document.activeElement?.closest("#targets button")?.dataset.index;
    $("targets").replaceChildren(...rows.map((row, i) => this.#row(row, i, i === chosen)));
    if (focused) $("targets").querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
    $("target-hint").hidden = !(this.#kind in HINTS) || !rows.length;
    $("target-part").hidden = false;
  }

  #row(row, i, chosen) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.index = i;
    button.setAttribute("aria-pressed", chosen);
    button.style.setProperty("--share", { segment: row.area, detect: row.chance }[this.#kind] ?? 0);
    const [name, figures] = ["name", "chance"].map((className) => Object.assign(document.createElement("span"), { className }));
    name.textContent = row.name ?? row.title;
    figures.textContent = figuresOfRow(row, this.#kind);
    button.append(name, figures);
    button.addEventListener("click", () => this.choose(this.asked(i)));
    item.append(button);
    return item;
  }
}
