// The page: the user's choices, the request for an explanation, and the places that show its parts.

import { methodsOf, told } from "./answers.js";
import { Choice } from "./choice.js";
import { Classes } from "./classes.js";
import { samples, watchFiles } from "./files.js";
import { head } from "./headline.js";
import { readPhoto } from "./photo.js";
import { saveMaps, savePicture } from "./save.js";
import { Service } from "./service.js";
import { figuresOf, kindOf, rowsOf, Targets } from "./targets.js";
import { Tiles } from "./tiles.js";
import { askToken } from "./token.js";
import { drawVerdict } from "./verdict.js";
import { count, facts, seconds } from "./words.js";

const MOST_KEPT = 16; // answers about one photo
const $ = (id) => document.getElementById(id);

const service = new Service(async (...why) => {
  working(false); // nothing is under way while the user is asked
  const token = await askToken(...why);
  working(true);
  return token;
});
const configs = new Map(); // by model
let settings, tiles, classes, choice, targets;
let file = null; // { blob, name }
let photo = null; // as `readPhoto` gives it
let answer = null; // the shown answer: { maps, region, title, classIndex, chances or row, parameters }
let kept = new Map(); // answers about this photo, by their request
let listed = new Map(); // the targets of this photo, by model
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
    listed = new Map();
    targets.rows = [];
    choice.target = {};
    $("file-name").textContent = next.name;
    clear();
    await explain(signal);
  });

async function explain(signal) {
  if (!choice.able.length) await ready(signal);
  const config = await chosenModel(signal);
  const asked = choice.now();
  const files = pictures(config);
  service.refuseLarge(Object.values(files), config.limits);
  const places = JSON.stringify(config.preprocessing);
  if (photo?.places !== places) {
    const read = await readPhoto(file.blob, config.preprocessing.size);
    signal.throwIfAborted();
    photo = { ...read, places };
    answer = null;
    begin(config, asked.methods);
  }
  if (kindOf(config) === "embed" && !targets.reference) return invite();
  asked.target = await target(asked, config, signal);
  signal.throwIfAborted();
  const keyOf = (named) => JSON.stringify([{ ...asked, target: named }, targets.reference?.number]);
  const key = keyOf(asked.target);
  const watch = watcher(asked.methods, config, signal);
  const ask = () => service.explain(asked.model, files, asked, figuresOf(config), signal, watch);
  const found = kept.get(key) ?? told(await ask(), asked.methods, config);
  signal.throwIfAborted();
  const same = found.chances && !targets.down ? keyOf({ class_index: found.classIndex }) : key; // the top class, named
  for (const name of [key, same]) kept.set(name, found);
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
  show(found, config);
}

/** The files of a request, by its inputs. */
function pictures(config) {
  const other = kindOf(config) === "embed" && targets.reference?.blob;
  return { image_bytes: file.blob, ...(other && { reference_bytes: other }) };
}

/** The target of a request: the user's, or the first of the photo's. */
async function target(asked, config, signal) {
  const kind = kindOf(config);
  if (kind === "segment" || kind === "heat") {
    const figures = figuresOf(config).filter((name) => name !== "region");
    const { model } = asked;
    if (!listed.has(model)) listed.set(model, rowsOf(await service.targets(model, pictures(config), asked, figures, signal)));
    targets.rows = listed.get(model);
  }
  const named = Object.keys(asked.target).length > 0 || kind === "vector" || kind === "embed";
  const given = named ? asked.target : targets.asked(targets.rows[0]);
  if (!targets.down) return given;
  return { value: Math.max(given.value ?? given.class_index ?? 0, 0), down: true };
}

/** Asks for a picture to compare with. */
function invite() {
  answer = null;
  tiles.blank();
  $("headline").textContent = "Choose a picture to compare with";
  $("subline").textContent = "The maps show where this photo is like it.";
  for (const id of ["view", "notes", "facts", "verdict"]) $(id).hidden = true;
  say("Choose a picture to compare with");
}

/** The configuration of the chosen model, whose description is shown. */
async function chosenModel(signal) {
  const { model } = choice.now();
  const config = await configOf(model, signal);
  signal.throwIfAborted();
  choice.describe(config);
  targets.describe(config);
  if (kindOf(config) !== "vector") $("class-part").hidden = true;
  $("caption").textContent = kindOf(config) === "vector" ? settings.caption : settings.caption.replace("the class", "it");
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
    const sketched = told({ ...said, parameters: {} }, methodsOf(said), config);
    if (signal.aborted || (seen++ && calm())) return;
    answer = null; // what is seen is no answer yet
    reached = said.parameters.passes;
    $("tiles").hidden = false;
    $("tiles").classList.remove("stale");
    for (const id of ["notes", "facts", "verdict"]) $(id).hidden = true;
    head(config, sketched, classes, targets, "point" in choice.target);
    tiles.sketch(sketched.maps, methods, sketched.region);
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
  tiles.show(found.maps, found.region);
  const [name, figures] = head(config, found, classes, targets, "point" in choice.target);
  drawVerdict($("verdict"), found.verdict, settings.methods);
  list("notes", notes(found), (note) => Object.assign(document.createElement("li"), { textContent: note }));
  list("facts", facts(found.parameters), fact);
  $("view").hidden = false;
  const verified = found.verdict ? ` The map is ${found.verdict.name}.` : "";
  say(`${name}, ${figures}. Explained in ${seconds(found.parameters.seconds)}.${verified}`);
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
  const name = answer.chances ? answer.title.split(",")[0] : answer.title;
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
  if (!pictures?.length) return;
  if (kindOf(config) === "embed") await targets.take(pictures.at(1) ?? pictures[0]);
  setTimeout(open, 0, pictures[0]);
}

/** Lists the samples, and returns them; they are shown for models that they fit. */
async function offerSamples() {
  const pictures = await service.samples();
  samples($("samples"), pictures, (url) => service.file(url), open);
  targets.offer(pictures);
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
  tiles = new Tiles($("tiles"), settings, say, saveOne, (point) => {
    const config = configs.get(choice.now().model);
    if (file && config && kindOf(config) === "segment") aim({ point });
  });
  targets = new Targets(aim, (url) => service.file(url));
  const parts = { top: $("top"), search: $("search"), found: $("found"), label: $("search-label") };
  classes = new Classes(parts, (index) => aim({ class_index: index }));
  choice = new Choice(settings, () => take(file ? explain : chosenModel));
  ramp(settings.colors);
  look(Math.round(100 * settings.opacity));
}

/** Explains what the user chooses; null: the same again. */
function aim(chosen) {
  if (chosen && !("reference" in chosen)) choice.target = chosen;
  if (!file) return;
  reveal();
  take(explain);
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
