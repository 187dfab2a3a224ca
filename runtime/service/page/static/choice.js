// The user's choices: model, methods, budget and target.

import { count } from "./words.js";

const $ = (id) => document.getElementById(id);
const KINDS = [
  ["fused", "Both of the kinds below, fused"],
  ["gradient", "By the gradient: no masked passes"],
  ["region", "By masked passes"],
];

export class Choice {
  target = {}; // as inputs and parameters of a request name it; the default one
  able = []; // methods that the model has all parts for
  always = false; // whether the service explains some pictures only, unless it is told to
  untouched = true; // whether the budget is the service's default

  /** @param changed () called after each change by the user. */
  constructor(settings, changed) {
    this.settings = settings;
    this.chosen = new Set(settings.chosen);
    this.changed = changed;
    $("model").addEventListener("change", () => {
      this.target = {};
      changed();
    });
    $("budget").addEventListener("change", () => {
      this.untouched = false;
      this.#parts();
      changed();
    });
    $("verify").addEventListener("change", changed);
    $("share").addEventListener("input", () => this.#share());
    $("share").addEventListener("change", changed);
    $("time").addEventListener("change", () => {
      if (!$("time").checkValidity()) $("time").value = $("time").defaultValue;
      changed();
    });
    this.#share();
  }

  /** Lists the models of the service. */
  offer(models) {
    const names = [...new Set(models.filter(({ state }) => (state ?? "READY") === "READY").map(({ name }) => name))];
    if (!names.length) throw new Error("the service has no model that is ready: see its log, then try again");
    const { value } = $("model");
    $("model").replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(value)) $("model").value = value;
  }

  /** Takes the configuration of the chosen model. */
  describe({ layer, layer_title: title, size, channels, methods, defaults }) {
    $("model-facts").textContent = `Input ${size[1]} × ${size[0]} pixels, ${count(channels, "channel")}`;
    Object.assign($("layer"), { textContent: `${title.includes(" + ") ? "Layers" : "Layer"} ${title}`, title: layer });
    this.always = "explain_if" in defaults;
    if (this.untouched) this.#budget(defaults.budget);
    this.able = methods;
    for (const method of this.chosen) if (!methods.includes(method)) this.chosen.delete(method);
    if (!this.chosen.size) this.chosen.add(methods[0]);
    this.#methods();
  }

  now() {
    const { value } = $("budget");
    return {
      model: $("model").value,
      target: this.target,
      methods: this.able.filter((method) => this.chosen.has(method)).sort((a, b) => this.#order(a) - this.#order(b)),
      budget: { share: (Number($("share").value) / 100).toFixed(2), time: `${Number($("time").value)}ms` }[value] ?? value,
      verify: $("verify").checked,
      always: this.always,
    };
  }

  /** Chooses a budget in the service's words: `auto`, `exact`, `0.2`, `64`, `80ms`. */
  #budget(words) {
    const time = words.match(/^([0-9.]+)ms$/);
    if (time) $("time").value = $("time").defaultValue = Math.max(1, Math.round(Number(time[1])));
    const share = /^0?\.[0-9]+$/.test(words);
    if (share) $("share").value = Math.max(1, Math.round(100 * Number(words)));
    const kind = time ? "time" : share ? "share" : words;
    const name = /^[0-9]+$/.test(words) ? `At most ${count(Number(words), "pass")}` : `As the service: ${words}`;
    if (![...$("budget").options].some((option) => option.value === kind)) $("budget").append(new Option(name, kind));
    $("budget").value = kind;
    this.#parts();
  }

  /** Shows what belongs to the kind of budget. */
  #parts() {
    for (const part of ["share", "time"]) $(`${part}-part`).hidden = $("budget").value !== part;
    this.#share();
  }

  /** The default methods come first, as on the command line. */
  #order = (method) => [...this.settings.chosen, ...this.able].indexOf(method);

  #share() {
    $("share-shown").textContent = `${$("share").value} %`;
  }

  #methods() {
    const known = new Map(this.settings.methods.map((method) => [method.name, method]));
    const of = (kind) => this.able.filter((method) => (known.get(method)?.kind ?? "fused") === kind);
    $("methods").replaceChildren(
      ...KINDS.filter(([kind]) => of(kind).length).map(([kind, title]) => {
        const group = document.createElement("fieldset");
        group.append(Object.assign(document.createElement("legend"), { textContent: title }));
        group.append(...of(kind).map((method) => this.#box(method, known.get(method)?.title ?? method)));
        return group;
      }),
    );
    this.#count();
  }

  #box(method, title) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: method });
    box.checked = this.chosen.has(method);
    box.addEventListener("change", () => {
      if (box.checked) this.chosen.add(method);
      else if (this.chosen.size > 1) this.chosen.delete(method);
      else box.checked = true; // at least one stays checked
      this.#count();
      this.changed();
    });
    label.append(box, title);
    return label;
  }

  #count() {
    $("methods-count").textContent = `${this.chosen.size} of ${this.able.length}`;
  }
}
