// What stands below the maps: the verdict, notes about special cases, and how the answer came about.

import { drawVerdict } from "./verdict.js";
import { facts } from "./words.js";

const $ = (id) => document.getElementById(id);
const UNSHOWN = "this browser cannot show this kind of file, only its maps: save it as PNG or JPEG to see both";

/** Shows the verdict, notes and facts of an answer, see `told`. @param readable Whether the photo is shown. */
export function report({ verdict, parameters }, settings, readable) {
  drawVerdict($("verdict"), verdict, settings.methods);
  list("notes", [...(readable ? [] : [UNSHOWN]), ...notes(parameters.flags, settings.flags)], note);
  list("facts", facts(parameters), fact);
  $("view").hidden = false;
}

/** Hides what is about an answer that is shown no longer. */
export function withdraw(...others) {
  for (const id of ["notes", "facts", "verdict", ...others]) $(id).hidden = true;
}

function notes(flags, texts) {
  const text = ([name, figure]) => texts[name]?.replace("{}", figure);
  return String(flags ?? "").split(",").filter(Boolean).map((flag) => text(flag.split("=")) ?? flag);
}

const note = (text) => Object.assign(document.createElement("li"), { textContent: text });

function fact([term, [main, more]]) {
  const [row, dt, dd, small] = ["div", "dt", "dd", "small"].map((tag) => document.createElement(tag));
  dt.textContent = term;
  small.textContent = more;
  dd.append(main, small);
  row.append(dt, dd);
  return row;
}

function list(id, items, made) {
  $(id).replaceChildren(...items.map(made));
  $(id).hidden = !items.length;
}
