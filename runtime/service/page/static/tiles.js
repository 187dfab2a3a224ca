// The photo and each map laid over it, side by side; a place one points at is shown, with its value, on all of them.

import { axes, seen, shownIn } from "./geometry.js";
import { drawMarks } from "./marks.js";
import { Ground } from "./overlay.js";
import { place } from "./words.js";

const PHOTO = "";
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 0.04; // of the side

export class Tiles {
  #tiles = new Map(); // by method
  #ground = null;
  #places = null;
  #spot = null; // [x, y], shares of the sides
  #region = null; // values of its pixels that the model saw
  #marks = []; // of detections
  photo = null; // as `readPhoto` gives it

  /**
   * @param say (text): tells a screen reader. @param save (method): downloads a picture.
   * @param pick ([x, y], pixels of the photo): takes a place that the user chooses.
   */
  constructor(parent, settings, say, save, pick) {
    this.parent = parent;
    this.settings = settings;
    this.titles = Object.fromEntries(settings.methods.map(({ name, title }) => [name, title]));
    this.say = say;
    this.save = save;
    this.pick = pick;
    this.opacity = settings.opacity;
  }

  /** Shows a new photo at once, muted where maps will be. */
  begin(photo, preprocessing, methods) {
    const { width, height } = photo.shown;
    const places = axes(photo.size, preprocessing).map((axis, i) => shownIn(axis, [height, width][i]));
    this.#ground = new Ground(photo.shown, places);
    this.#places = places;
    this.#region = null;
    this.#marks = [];
    this.photo = photo;
    this.#point(null);
    this.#arrange(methods);
    for (const tile of this.#tiles.values()) {
      Object.assign(tile, { map: null, values: null, final: false });
      tile.note = tile.soFar.textContent = "";
    }
    this.#paint();
  }

  /** Shows no map for now, as nothing is asked. */
  blank() {
    for (const method of [...this.#tiles.keys()].filter((name) => name !== PHOTO)) {
      this.#tiles.get(method).figure.remove();
      this.#tiles.delete(method);
    }
    this.#region = null;
    this.#paint();
  }

  /** The maps of the photo: { method: { shape, data } }. @param region Of the target, the same; it may have none. */
  show(maps, region) {
    this.#arrange(Object.keys(maps));
    this.#outline(region);
    for (const [method, map] of Object.entries(maps)) this.#take(this.#tiles.get(method), map, "", true);
    this.#paint();
    this.#point(this.#spot);
  }

  /** Maps that are still being made; a method that has none yet shows the best of the others. */
  sketch(maps, methods, region) {
    this.#arrange(methods);
    this.#outline(region);
    const made = Object.keys(maps);
    const kinds = Object.fromEntries(this.settings.methods.map(({ name, kind }) => [name, kind]));
    const best = made.find((method) => kinds[method] === "region") ?? made[0];
    for (const method of methods) {
      const note = method in maps ? (kinds[method] === "region" ? "so far" : "") : `so far ${this.titles[best] ?? best}`;
      this.#take(this.#tiles.get(method), maps[method] ?? maps[best], note, false);
    }
    this.#paint();
    this.#point(this.#spot);
  }

  get marks() {
    return this.#marks;
  }

  /** Marks of detections, see `drawMarks`: they lie on all pictures, and on no blank one. */
  set marks(marks) {
    this.#marks = this.photo.readable ? marks : [];
    for (const [method, tile] of this.#tiles) this.#mark(method, tile);
  }

  #mark(method, { stage, title, map, note }) {
    drawMarks(stage, this.photo.size, this.#marks, method === PHOTO);
    const marked = this.#marks.length ? ` with ${this.#marks.map(({ text }) => text).join(", ")}` : "";
    const about = !map ? "not made yet" : note ? `${note}, ${place(map)}` : place(map);
    stage.setAttribute("aria-label", method === PHOTO ? `The photo${marked}` : `${title}: ${about}`);
  }

  #outline(region) {
    this.#region = region ? this.#ground.values(region.data, region.shape[1]) : null;
  }

  #take(tile, map, note, final) {
    Object.assign(tile, { map, final });
    tile.note = tile.soFar.textContent = note;
    tile.values = this.#ground.values(map.data, map.shape[1]);
  }

  /** Opacity of the colours, painted with the next picture of the screen. */
  set look(opacity) {
    this.opacity = opacity;
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      this.#paint();
    });
  }

  /** A tile for the photo, where the browser can show it, and one for each method, in this order. */
  #arrange(made) {
    const methods = this.photo.readable ? [PHOTO, ...made] : made;
    for (const [method, tile] of this.#tiles) {
      if (methods.includes(method)) continue;
      tile.figure.remove();
      this.#tiles.delete(method);
    }
    for (const method of methods) {
      if (!this.#tiles.has(method)) this.#tiles.set(method, this.#made(method));
      const { figure } = this.#tiles.get(method);
      if (figure !== this.parent.children[methods.indexOf(method)]) {
        this.parent.insertBefore(figure, this.parent.children[methods.indexOf(method)] ?? null);
      }
    }
  }

  #made(method) {
    const figure = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    const [stage, value, save] = [".stage", ".value", ".save"].map((part) => figure.querySelector(part));
    const title = method === PHOTO ? "Photo" : (this.titles[method] ?? method);
    figure.dataset.method = method;
    figure.querySelector(".name").textContent = title;
    save.setAttribute("aria-label", `Download ${title} as PNG`);
    save.addEventListener("click", async () => {
      if (save.ariaBusy === "true") return;
      save.ariaBusy = "true";
      await this.save(method);
      save.ariaBusy = "false";
    });
    const pointed = (event) => {
      const box = stage.getBoundingClientRect();
      this.#point([(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    };
    for (const name of ["pointerdown", "pointermove"]) stage.addEventListener(name, pointed);
    stage.addEventListener("click", (event) => {
      pointed(event);
      this.#pick();
    });
    // A finger leaves the picture when it is lifted; the value must stay readable.
    stage.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#point(null));
    stage.addEventListener("blur", () => this.#point(null));
    stage.addEventListener("keydown", (event) => this.#step(event));
    const [canvas, spot, soFar] = ["canvas", ".spot", ".so-far"].map((part) => figure.querySelector(part));
    return { figure, stage, value, title, save, canvas, spot, soFar, note: "", final: false };
  }

  #paint() {
    if (!this.photo) return;
    for (const [method, tile] of this.#tiles) {
      const { canvas, values, final } = tile;
      const { width, height } = this.photo.shown;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const image =
        method === PHOTO ? this.photo.shown : this.#ground.painted(values ?? this.#ground.blank, this.settings.colors, this.opacity);
      canvas.getContext("2d").putImageData(this.#region ? this.#ground.outlined(image, this.#region) : image, 0, 0);
      tile.save.hidden = method === PHOTO || !this.photo.readable;
      tile.save.disabled = !final;
      this.#mark(method, tile);
    }
  }

  #step(event) {
    const step = STEPS[event.key];
    if (event.key === "Escape") this.#point(null);
    if (event.key === "Enter") this.#pick();
    if (!step) return;
    event.preventDefault();
    const [x, y] = this.#spot ?? [0.5 - STEP * step[0], 0.5 - STEP * step[1]];
    this.#point([x + STEP * step[0], y + STEP * step[1]].map((at) => Math.min(Math.max(at, 0), 1)));
    const mapped = [...this.#tiles.values()].filter((tile) => tile.map);
    const read = mapped.map((tile) => `${tile.title} ${tile.value.textContent}`);
    const [across, down] = this.#spot.map((at) => Math.round(100 * at));
    this.say(`${across} % across, ${down} % down: ${read.join(", ")}`);
  }

  #pick() {
    if (this.#spot === null) return;
    const [height, width] = this.photo.size;
    const pixel = (share, size) => Math.min(Math.max(Math.floor(share * size), 0), size - 1);
    this.pick([pixel(this.#spot[0], width), pixel(this.#spot[1], height)]);
  }

  #point(spot) {
    this.#spot = spot;
    for (const { spot: mark, value, values } of this.#tiles.values()) {
      mark.hidden = spot === null;
      value.textContent = spot === null || !values ? "" : this.#read(values);
      value.hidden = !value.textContent;
      if (spot === null) continue;
      mark.style.left = `${100 * spot[0]}%`;
      mark.style.top = `${100 * spot[1]}%`;
    }
  }

  /** The value of a map at the spot, where the model saw it. */
  #read(values) {
    const [rows, columns] = this.#places.map(seen);
    const { width, height } = this.photo.shown;
    const x = Math.min(Math.floor(this.#spot[0] * width), width - 1);
    const y = Math.min(Math.floor(this.#spot[1] * height), height - 1);
    if (x < columns[0] || x >= columns[1] || y < rows[0] || y >= rows[1]) return "not seen";
    return values[(y - rows[0]) * (columns[1] - columns[0]) + x - columns[0]].toFixed(2);
  }
}
