// The user's choices: model, methods, budget and class.

import { count } from "./words.js";

const $ = (id) => document.getElementById(id);
const KINDS = [
  ["fused", "Both of the kinds below, fused"],
  ["gradient", "By the gradient: no masked passes"],
  ["region", "By masked passes"],
];

export class Choice {
  classIndex = -1; // the top one
  able = []; // methods that the model has all parts for

  /** @param changed () called after each change by the user. */
  constructor(settings, changed) {
    this.settings = settings;
    this.chosen = new Set(settings.chosen);
    this.changed = changed;
    $("model").addEventListener("change", () => {
      this.classIndex = -1;
      changed();
    });
    $("budget").addEventListener("change", () => {
      for (const part of ["share", "time"]) $(`${part}-part`).hidden = $("budget").value !== part;
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
  describe({ layer, size, channels, methods }) {
    $("model-facts").textContent = `Input ${size[1]} × ${size[0]} pixels, ${count(channels, "channel")}`;
    Object.assign($("layer"), { textContent: `Layer ${layer}`, title: layer });
    this.able = methods;
    for (const method of this.chosen) if (!methods.includes(method)) this.chosen.delete(method);
    if (!this.chosen.size) this.chosen.add(methods[0]);
    this.#methods();
  }

  now() {
    const { value } = $("budget");
    return {
      model: $("model").value,
      classIndex: this.classIndex,
      methods: this.able.filter((method) => this.chosen.has(method)).sort((a, b) => this.#order(a) - this.#order(b)),
      budget: { share: (Number($("share").value) / 100).toFixed(2), time: `${Number($("time").value)}ms` }[value] ?? value,
      verify: $("verify").checked,
    };
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
