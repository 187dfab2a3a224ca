// What is under way, and what went wrong: the words beside the headline, and the line below it.

import { count } from "./words.js";

const $ = (id) => document.getElementById(id);
let ticking = 0; // the clock that counts the seconds
let reached = 0; // masked passes of preliminary maps

/** Shows that work is under way, and for how long, or that there is none. @param what () Its name: `Explaining`. */
export function working(so, what) {
  $("tiles").classList.toggle("stale", so);
  $("tiles").setAttribute("aria-busy", so);
  $("working").hidden = !so;
  clearInterval(ticking);
  reached = 0;
  if (!so) return;
  const doing = () => `${reached ? `Sharpening after ${count(reached, "masked pass")}` : what()} …`;
  $("working-text").textContent = doing();
  const since = performance.now();
  const tick = () => {
    $("working-text").textContent = `${doing()} ${Math.round((performance.now() - since) / 1000)} s`;
  };
  ticking = setInterval(tick, 1000);
}

/** Notes how far preliminary maps are. */
export function progress(passes) {
  reached = passes;
}

/** Shows an error as a sentence. */
export function complain(error) {
  const text = error.message || String(error);
  $("problem-text").textContent = text[0].toUpperCase() + text.slice(1);
  $("problem").hidden = false;
}

/** Tells a screen reader. */
export function say(text) {
  $("status").textContent = text;
}
