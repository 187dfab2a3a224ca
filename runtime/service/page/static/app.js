// The page: the user's choices, the request for an explanation, and the places that show its parts.

import { methodsOf, told } from "./answers.js";
import { complain, progress, say, working } from "./busy.js";
import { Choice } from "./choice.js";
import { Classes } from "./classes.js";
import { marksOf } from "./detections.js";
import { samples, watchFiles } from "./files.js";
import { head } from "./headline.js";
import { readPhoto } from "./photo.js";
import { report, withdraw } from "./report.js";
import { saveMaps, savePicture } from "./save.js";
import { Service } from "./service.js";
import { figuresOf, isListed, kindOf, rowsOf, Targets } from "./targets.js";
import { Tiles } from "./tiles.js";
import { askToken } from "./token.js";
import { calm, ramp, reveal, watchOpacity } from "./view.js";
import { chance, seconds } from "./words.js";

const MOST_KEPT = 16; // answers about one photo
const $ = (id) => document.getElementById(id);

const service = new Service(async (...why) => {
  working(false); // nothing is under way while the user is asked
  const token = await askToken(...why);
  working(true, doing);
  return token;
});
const configs = new Map(); // by model
let settings, tiles, classes, choice, targets;
let file = null; // { blob, name }
let photo = null; // as `readPhoto` gives it
let answer = null; // the shown answer: { maps, region, title, classIndex, chances or row, parameters }
let kept = new Map(); // answers about this photo, by their request
let listed = new Map(); // the targets of this photo, by model and what they are listed by
let preparing = null; // the promise that `prepared` waits for
let offered = null; // the promise of the samples
let turn = new AbortController(); // of the latest request: results of earlier ones are not shown

/** Runs the latest action; an earlier one that still runs is aborted. */
async function take(work) {
  turn.abort();
  const mine = (turn = new AbortController());
  $("problem").hidden = true;
  working(true, doing);
  try {
    await work(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) fail(error);
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
  if (kindOf(config) === "embed" && !targets.reference) {
    return instead("Choose a picture to compare with", "The maps show where this photo is like it.");
  }
  if (isListed(kindOf(config))) await listTargets(asked, config, signal);
  if (kindOf(config) === "detect" && !targets.rows.length) return nothing(asked, config, signal);
  asked.target = targets.request(asked.target);
  mark(config, asked.target);
  const keyOf = (named) => JSON.stringify([{ ...asked, target: named }, targets.reference?.number]);
  const key = keyOf(asked.target);
  const watch = watcher(asked, config, signal);
  const ask = () => service.explain(asked.model, files, asked, figuresOf(config), signal, watch);
  const found = kept.get(key) ?? { ...told(await ask(), asked.methods, config), target: asked.target };
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

/** Lists the targets of the photo, once for each way to list them. */
async function listTargets(asked, config, signal) {
  const { listing } = targets;
  const figures = figuresOf(config).filter((name) => name !== "region");
  const key = JSON.stringify([asked.model, listing]);
  const list = async (by) => rowsOf(await service.targets(asked.model, pictures(config), asked, by, figures, signal));
  if (!listed.has(key)) listed.set(key, await list(listing));
  signal.throwIfAborted();
  targets.rows = listed.get(key);
}

/** Says that nothing is detected, and the best there was. */
async function nothing(asked, config, signal) {
  const by = { conf: 0, most: 1 };
  const [best] = rowsOf(await service.targets(asked.model, pictures(config), asked, by, figuresOf(config), signal));
  signal.throwIfAborted();
  targets.show(-1);
  mark(config, {});
  instead("Nothing is detected", `The best is ${best.name}, ${chance(best.chance)} sure: lower the least score to explain it.`);
}

/** Shows the photo without a map, and says why. */
function instead(title, text) {
  answer = null;
  tiles.blank();
  $("headline").textContent = title;
  $("subline").textContent = text;
  withdraw("view");
  say(`${title}. ${text}`);
}

/** The configuration of the chosen model, whose description is shown. */
async function chosenModel(signal) {
  const { model } = choice.now();
  const config = await configOf(model, signal);
  signal.throwIfAborted();
  choice.describe(config);
  targets.describe(config);
  if (kindOf(config) !== "vector") $("class-part").hidden = true;
  $("tiles").classList.toggle("detect", kindOf(config) === "detect");
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
function watcher({ methods, target }, config, signal) {
  let seen = 0;
  return (said) => {
    const sketched = { ...told({ ...said, parameters: {} }, methodsOf(said), config), target };
    if (signal.aborted || (seen++ && calm())) return;
    answer = null; // what is seen is no answer yet
    progress(said.parameters.passes);
    $("tiles").hidden = false;
    $("tiles").classList.remove("stale");
    withdraw();
    head(config, sketched, classes, targets);
    tiles.sketch(sketched.maps, methods, sketched.region);
    mark(config, target);
  };
}

/** Clears the results of the previous photo. */
function clear() {
  $("headline").textContent = "Looking at the photo";
  $("subline").textContent = file.name;
  withdraw("tiles", "view");
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
  const [name, figures] = head(config, found, classes, targets);
  mark(config, found.target);
  report(found, settings, photo.readable);
  const verified = found.verdict ? ` The map is ${found.verdict.name}.` : "";
  say(`${name}, ${figures}. Explained in ${seconds(found.parameters.seconds)}.${verified}`);
}

/** Draws the detections over the pictures, of a detector. */
function mark(config, { detection }) {
  tiles.marks = kindOf(config) === "detect" ? marksOf(targets.rows, settings.marks, detection) : [];
}

/** What is under way: before there is a photo, nothing is explained. */
const doing = () => (file ? "Explaining" : "Loading");

function fail(error) {
  complain(error);
  if (answer !== null || !file) return;
  $("headline").textContent = "No explanation";
  $("class-part").hidden = true;
}

function stem() {
  const name = answer.chances ? answer.title.split(",")[0] : answer.title;
  return `${file.name.replace(/\.[^.]*$/, "")}-${name}`.replace(/[^\p{L}\p{N}._-]+/gu, "-");
}

async function saveOne(method) {
  if (!answer) return;
  const { preprocessing } = answer.config;
  const name = `${stem()}.${method.replace(/[^A-Za-z0-9_.]/g, "-")}.png`;
  try {
    await savePicture(file.blob, answer.maps[method], preprocessing, settings.colors, tiles.opacity, tiles.marks, name);
  } catch {
    fail(new Error("this browser cannot make a picture of this file: use `fusioncam explain --separate` instead"));
  }
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
    const picked = file && targets.at(point);
    if (picked) aim(picked);
  });
  targets = new Targets(aim, (url) => service.file(url));
  const parts = { top: $("top"), search: $("search"), found: $("found"), label: $("search-label") };
  classes = new Classes(parts, (index) => aim({ class_index: index }));
  choice = new Choice(settings, () => take(file ? explain : chosenModel));
  ramp(settings.colors);
  watchOpacity(settings.opacity, (opacity) => (tiles.look = opacity));
}

/** Explains what the user chooses; null: the same again. */
function aim(chosen) {
  if (chosen && !("reference" in chosen)) choice.target = chosen;
  if (!file) return;
  reveal();
  take(explain);
}

$("save-maps").addEventListener("click", () => answer && saveMaps(answer.maps, stem()));
$("again").addEventListener("click", () => take(file ? explain : ready));
$("stop").addEventListener("click", () => {
  turn.abort();
  working(false);
  fail(new Error("stopped before the maps were made"));
});
watchFiles((blob) => open({ blob, name: blob.name || "pasted picture" }), fail);
take(ready);
