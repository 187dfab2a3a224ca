// The headline: what is explained, and its figures.

import { figuresText, kindOf } from "./targets.js";
import { chance, count } from "./words.js";

const $ = (id) => document.getElementById(id);

/**
 * Says what is explained, and shows it among the other classes or targets.
 * @param found See `told`; `target` is that of the request.
 * @returns Its name and its figures.
 */
export function head(config, found, classes, targets) {
  const kind = kindOf(config);
  return kind === "vector" ? ofClass(config, found, classes, targets) : ofTarget(kind, found, targets);
}

function ofClass({ labels }, { chances, classIndex }, classes, targets) {
  classes.show(labels, chances, classIndex);
  const [name, p, rank] = [classes.name, classes.chance, classes.rank].map((of) => of(classIndex));
  const place = rank === 1 ? "the most probable" : `number ${rank}`;
  show(targets.down ? "What lowers" : "What speaks for", name, `${chance(p)}, ${place} of ${count(chances.length, "class")}`);
  $("class-part").hidden = false;
  return [name, chance(p)];
}

function ofTarget(kind, { title, row, target }, targets) {
  targets.show(targets.chosen(target, row));
  const lead = {
    segment: "What speaks for", heat: targets.down ? "What lowers" : "What raises", embed: "What is like",
    detect: targets.detections.lead,
  }[kind];
  const name = { embed: targets.reference?.name, detect: row.name }[kind] ?? title;
  const figures = figuresText(row, kind);
  show(lead, name, figures);
  return [name, figures];
}

function show(lead, name, figures) {
  $("headline").replaceChildren(`${lead} `, Object.assign(document.createElement("em"), { textContent: name }));
  $("subline").textContent = figures;
}
