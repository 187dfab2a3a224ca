// Targets that are no class of a picture: regions, heat maps, and likeness to a second picture.

import { samples } from "./files.js";
import { chance } from "./words.js";

const $ = (id) => document.getElementById(id);
const FIGURES = ["class_index", "score", "confidence", "title"];

/** What a model is asked: `vector` (a class or a value), `segment`, `heat` or `embed`. */
export function kindOf({ task, targets }) {
  if (targets.includes("reference")) return "embed";
  return targets.includes("region") ? (task === "segment" ? "segment" : "heat") : "vector";
}

/** The outputs beside maps. */
export const figuresOf = (config) =>
  ({ vector: ["probabilities", "class_index"], embed: FIGURES }[kindOf(config)] ?? [...FIGURES, "area", "region"]);

/** The rows of an answer's figures: [{ title, classIndex, score, confidence, area }]. */
export function rowsOf({ title, class_index: index, score, confidence, area }) {
  return title.data.map((name, i) => ({
    title: name, classIndex: index.data[i], score: score.data[i], confidence: confidence.data[i], area: area?.data[i],
  }));
}

/** What a row says beside its title. */
export function figuresText({ confidence, score, area }, kind) {
  if (kind === "embed") return `Cosine ${score.toFixed(3)}: 1 is the same, 0 has nothing in common`;
  if (kind === "heat") return `Mean ${score.toLocaleString("en", { maximumSignificantDigits: 4 })}`;
  return `${chance(confidence)} on average, over ${chance(area)} of what the model sees`;
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
    $("reference-part").hidden = kind !== "embed";
    $("target-title").textContent = { segment: "Region", heat: "Heat map", embed: "Compare with" }[kind] ?? "";
    $("target-hint").hidden = kind !== "segment";
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

  /** The request's target of a row. */
  asked = (row) => (this.#kind === "heat" ? { value: row.classIndex } : { class_index: row.classIndex });

  /** Shows the rows, and which of them is explained: none where a part was picked. */
  show(rows, chosen) {
    this.rows = rows;
    const focused = document.activeElement?.closest("#targets button")?.dataset.index;
    $("targets").replaceChildren(...rows.map((row, i) => this.#row(row, i, row.classIndex === chosen)));
    if (focused) $("targets").querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
    $("target-part").hidden = false;
  }

  #row(row, i, chosen) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.index = i;
    button.setAttribute("aria-pressed", chosen);
    const share = this.#kind === "segment" ? row.area : 0;
    button.style.setProperty("--share", share);
    const [name, figures] = ["name", "chance"].map((className) => Object.assign(document.createElement("span"), { className }));
    name.textContent = row.title;
    figures.textContent = this.#kind === "segment" ? `${chance(row.area)} · ${chance(row.confidence)} sure` : row.score.toPrecision(3);
    button.append(name, figures);
    button.addEventListener("click", () => this.choose(this.asked(row)));
    item.append(button);
    return item;
  }
}
