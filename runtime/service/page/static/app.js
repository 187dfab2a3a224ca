// The page: the user's choices, the request for an explanation, and the places that show its parts.

import { Choice } from "./choice.js";
import { Classes } from "./classes.js";
import { samples, watchFiles } from "./files.js";
import { readPhoto } from "./photo.js";
import { saveMaps, savePicture } from "./save.js";
import { Service } from "./service.js";
import { Tiles } from "./tiles.js";
import { askToken } from "./token.js";
import { drawVerdict } from "./verdict.js";
import { chance, count, facts, seconds } from "./words.js";

const MOST_KEPT = 16; // answers about one photo
const $ = (id) => document.getElementById(id);

const service = new Service(async (...why) => {
  working(false); // nothing is under way while the user is asked
  const token = await askToken(...why);
  working(true);
  return token;
});
const configs = new Map(); // by model
let settings, tiles, classes, choice;
let file = null; // { blob, name }
let photo = null; // as `readPhoto` gives it
let answer = null; // the shown answer: { maps, classIndex, chances, parameters }
let kept = new Map(); // answers about this photo, by their request
let reached = 0; // masked passes of preliminary maps
let ticking = 0; // the clock that counts the seconds
let preparing = null; // the promise that `prepared` waits for
let offered = null; // the promise of the samples
let turn = new AbortController(); // of the latest request: results of earlier ones are not shown

/** Runs the latest action; an earlier one that still runs is aborted. */
async function take(work) {
  turn.abort();
  const mine = (turn = new AbortController());
  $("problem").hidden = true;
  working(true);
  try {
    await work(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) complain(error);
  } finally {
    if (turn === mine) working(false);
  }
}

/** @param next { blob, name }, or { url, name } of a sample. */
const open = (next) =>
  take(async (signal) => {
    await prepared();
    const blob = next.blob ?? (await service.file(next.url, signal));
    signal.throwIfAborted();
    file = { blob, name: next.name };
    photo = answer = null;
    kept = new Map();
    choice.classIndex = -1;
    $("file-name").textContent = next.name;
    clear();
    await explain(signal);
  });

async function explain(signal) {
  if (!choice.able.length) await ready(signal);
  const config = await chosenModel(signal);
  const asked = choice.now();
  service.refuseLarge(file.blob, config.limits);
  const places = JSON.stringify(config.preprocessing);
  if (photo?.places !== places) {
    const read = await readPhoto(file.blob, config.preprocessing.size);
    signal.throwIfAborted();
    photo = { ...read, places };
    answer = null;
    begin(config, asked.methods);
  }
  const key = JSON.stringify(asked);
  const watch = watcher(asked.methods, config, signal);
  const found = kept.get(key) ?? told(await service.explain(asked.model, file.blob, asked, signal, watch), asked.methods);
  signal.throwIfAborted();
  for (const name of [key, JSON.stringify({ ...asked, classIndex: found.classIndex })]) kept.set(name, found);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  show(found, config);
}

/** The configuration of the chosen model, whose description is shown. */
async function chosenModel(signal) {
  const { model } = choice.now();
  const config = await configOf(model, signal);
  signal.throwIfAborted();
  choice.describe(config);
  showSamples();
  if (config.samples) offered ??= offerSamples().catch(() => (offered = null)); // nobody waits for them
  return config;
}

async function configOf(model, signal) {
  if (!configs.has(model)) configs.set(model, await service.config(model, signal));
  return configs.get(model);
}

/** Shows preliminary maps; where less motion is wanted, the first ones only. */
function watcher(methods, config, signal) {
  let seen = 0;
  return (said) => {
    const { class_index: target, probabilities, logits, ...made } = said.tensors;
    if (signal.aborted || (seen++ && calm())) return;
    answer = null; // what is seen is no answer yet
    reached = said.parameters.passes;
    $("tiles").hidden = false;
    $("tiles").classList.remove("stale");
    for (const id of ["notes", "facts", "verdict"]) $(id).hidden = true;
    head(config.labels, probabilities.data, target.data[0]);
    tiles.sketch(told({ tensors: { ...made, class_index: target, probabilities }, parameters: {} }, Object.keys(made)).maps, methods);
  };
}

/** The parts of an answer that the page needs, for its first picture. */
function told({ tensors, parameters }, methods) {
  const map = ({ shape, data }) => ({ shape: shape.slice(-2), data });
  return {
    maps: Object.fromEntries(methods.map((method) => [method, map(tensors[method])])),
    classIndex: tensors.class_index.data[0],
    chances: tensors.probabilities.data,
    verdict: tensors.verdict ? JSON.parse(tensors.verdict.data[0]) : null,
    parameters,
  };
}

/** Clears the results of the previous photo. */
function clear() {
  $("headline").textContent = "Looking at the photo";
  $("subline").textContent = file.name;
  for (const id of ["tiles", "view", "notes", "facts", "verdict"]) $(id).hidden = true;
}

/** Shows a photo whose maps are still to come. */
function begin({ preprocessing }, methods) {
  clear();
  $("tiles").hidden = !photo.readable;
  tiles.begin(photo, preprocessing, methods);
  reveal();
}

function show(found, config) {
  answer = { ...found, config };
  $("tiles").hidden = false;
  tiles.show(found.maps);
  const [name, p] = head(config.labels, found.chances, found.classIndex);
  drawVerdict($("verdict"), found.verdict, settings.methods);
  list("notes", notes(found), (note) => Object.assign(document.createElement("li"), { textContent: note }));
  list("facts", facts(found.parameters), fact);
  for (const id of ["view", "class-part"]) $(id).hidden = false;
  const verified = found.verdict ? ` The map is ${found.verdict.name}.` : "";
  say(`${name}, ${chance(p)}. Explained in ${seconds(found.parameters.seconds)}.${verified}`);
}

/** Says what is explained. */
function head(labels, chances, classIndex) {
  classes.show(labels, chances, classIndex);
  const [name, p, rank] = [classes.name, classes.chance, classes.rank].map((of) => of(classIndex));
  $("headline").replaceChildren("What speaks for ", Object.assign(document.createElement("em"), { textContent: name }));
  const place = rank === 1 ? "the most probable" : `number ${rank}`;
  $("subline").textContent = `${chance(p)}, ${place} of ${count(chances.length, "class")}`;
  return [name, p];
}

function notes({ parameters }) {
  const flags = String(parameters.flags ?? "").split(",").filter(Boolean);
  const text = ([name, figure]) => settings.flags[name]?.replace("{}", figure);
  const said = flags.map((flag) => text(flag.split("=")) ?? flag);
  return photo.readable ? said : ["this browser cannot show this kind of file, only its maps: save it as PNG or JPEG to see both", ...said];
}

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

function working(so) {
  $("tiles").classList.toggle("stale", so);
  $("tiles").setAttribute("aria-busy", so);
  $("working").hidden = !so;
  clearInterval(ticking);
  reached = 0;
  const doing = () => (reached ? `Sharpening after ${count(reached, "masked pass")}` : "Explaining");
  const what = () => (file ? doing() : "Loading"); // before there is a photo, nothing is explained
  $("working-text").textContent = `${what()} …`;
  const since = performance.now();
  const tick = () => {
    $("working-text").textContent = `${what()} … ${Math.round((performance.now() - since) / 1000)} s`;
  };
  if (so) ticking = setInterval(tick, 1000);
}

function complain(error) {
  const text = error.message || String(error);
  $("problem-text").textContent = text[0].toUpperCase() + text.slice(1);
  $("problem").hidden = false;
  if (answer !== null || !file) return;
  $("headline").textContent = "No explanation";
  $("class-part").hidden = true;
}

/** Brings the pictures into sight where they are not, as on a phone. */
function reveal() {
  if ($("tiles").hidden) return;
  const { top, bottom } = $("tiles").getBoundingClientRect();
  if (top < 0.75 * innerHeight && bottom > 0) return;
  $("result").scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

const say = (text) => {
  $("status").textContent = text;
};

function stem() {
  const name = classes.name(answer.classIndex).split(",")[0];
  return `${file.name.replace(/\.[^.]*$/, "")}-${name}`.replace(/[^\p{L}\p{N}._-]+/gu, "-");
}

async function saveOne(method) {
  if (!answer) return;
  const { preprocessing } = answer.config;
  const name = `${stem()}.${method.replace(/[^A-Za-z0-9_.]/g, "-")}.png`;
  try {
    await savePicture(file.blob, answer.maps[method], preprocessing, settings.colors, tiles.opacity, name);
  } catch {
    complain(new Error("this browser cannot make a picture of this file: use `fusioncam explain --separate` instead"));
  }
}

function look(percent) {
  $("opacity").value = percent;
  $("opacity-shown").textContent = `${percent} %`;
  if (tiles) tiles.look = percent / 100;
}

/** The colours from 0 to 1. */
function ramp(colors) {
  const image = new ImageData(colors.length, 1);
  image.data.set(colors.flatMap((color) => [...color, 255]));
  $("ramp").getContext("2d").putImageData(image, 0, 0);
}

/** Loads models, settings and samples from the service. */
async function ready(signal) {
  await prepared();
  choice.offer(await service.models());
  const config = await chosenModel(signal);
  if (location.hash !== "#sample" || !config.samples || file) return;
  const pictures = await offered;
  if (pictures?.length) setTimeout(open, 0, pictures[0]);
}

/** Lists the samples, and returns them; they are shown for models that they fit. */
async function offerSamples() {
  const pictures = await service.samples();
  samples(pictures, (url) => service.file(url), open);
  showSamples();
  return pictures;
}

function showSamples() {
  const fit = configs.get(choice.now().model)?.samples;
  $("sample-part").hidden = !fit || !$("samples").children.length;
}

/** Makes the parts that need the service's settings, once. */
function prepared() {
  preparing ??= prepare().catch((error) => {
    preparing = null;
    throw error;
  });
  return preparing;
}

async function prepare() {
  settings = await service.settings();
  tiles = new Tiles($("tiles"), settings, say, saveOne);
  const parts = { top: $("top"), search: $("search"), found: $("found"), label: $("search-label") };
  classes = new Classes(parts, (index) => {
    choice.classIndex = index;
    reveal();
    take(explain);
  });
  choice = new Choice(settings, () => take(file ? explain : chosenModel));
  ramp(settings.colors);
  $("caption").textContent = settings.caption;
  look(Math.round(100 * settings.opacity));
}

$("opacity").addEventListener("input", () => look(Number($("opacity").value)));
$("save-maps").addEventListener("click", () => answer && saveMaps(answer.maps, stem()));
$("again").addEventListener("click", () => take(file ? explain : ready));
$("stop").addEventListener("click", () => {
  turn.abort();
  working(false);
  complain(new Error("stopped before the maps were made"));
});
watchFiles((blob) => open({ blob, name: blob.name || "pasted picture" }), complain);
take(ready);
