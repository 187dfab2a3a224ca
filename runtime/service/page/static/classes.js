// Which class to explain: the most probable ones as buttons, any other by a search over all labels.

import { chance, count } from "./words.js";

const TOP = 5;
const MOST_FOUND = 60;

export class Classes {
  #names = [];
  #chances = [];
  #chosen = -1;
  #found = [];
  #active = -1;

  /** @param choose (class index). */
  constructor({ top, search, found, label }, choose) {
    Object.assign(this, { top, search, found, label, choose });
    search.addEventListener("input", () => this.#open());
    search.addEventListener("click", () => this.#open());
    search.addEventListener("blur", () => this.#close());
    search.addEventListener("keydown", (event) => this.#key(event));
    found.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays in the field
    found.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#take(Number(option.dataset.index));
    });
  }

  /** @param labels Of all classes, or null. @param chances Of all classes. @param chosen The class explained. */
  show(labels, chances, chosen) {
    this.#chances = Array.from(chances);
    this.#names = this.#chances.map((_, i) => labels?.[i] ?? `class ${i}`);
    this.#chosen = chosen;
    this.order = this.#chances.map((_, i) => i).sort((a, b) => this.#chances[b] - this.#chances[a] || a - b);
    this.label.textContent = `Any of the ${count(this.order.length, "class")}`;
    const shown = this.order.slice(0, TOP);
    if (!shown.includes(chosen)) shown.push(chosen);
    const focused = document.activeElement?.closest("#top button")?.dataset.index;
    this.top.replaceChildren(...shown.map((i) => this.#row(i)));
    if (focused) this.top.querySelector(`[data-index="${focused}"]`)?.focus({ preventScroll: true });
  }

  name = (i) => this.#names[i];
  chance = (i) => this.#chances[i];
  rank = (i) => this.order.indexOf(i) + 1;

  #row(i) {
    const row = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.index = i;
    button.setAttribute("aria-pressed", i === this.#chosen);
    button.style.setProperty("--share", Math.min(Math.max(this.#chances[i], 0), 1));
    button.append(text("name", this.#names[i]), text("chance", chance(this.#chances[i])));
    button.addEventListener("click", () => this.choose(i));
    row.append(button);
    return row;
  }

  #open() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (i) => words.every((word) => this.#names[i].toLowerCase().includes(word) || String(i) === word);
    const all = this.order?.filter(fits) ?? [];
    this.#found = all.slice(0, MOST_FOUND);
    this.found.replaceChildren(...this.#found.map((i, at) => this.#option(i, at)));
    if (!all.length) this.found.append(remark("no such class"));
    const more = all.length - MOST_FOUND;
    if (more > 0) this.found.append(remark(`and ${count(more, "class")} more: type on`));
    this.found.hidden = false;
    this.found.scrollIntoView({ block: "nearest" });
    this.search.setAttribute("aria-expanded", "true");
    this.#activate(this.#found.length && words.length ? 0 : -1);
  }

  #option(i, at) {
    const option = document.createElement("li");
    Object.assign(option, { id: `found-${at}`, role: "option" });
    option.dataset.index = i;
    option.setAttribute("aria-selected", i === this.#chosen);
    option.append(text("name", this.#names[i]), text("number", `${i}`), text("chance", chance(this.#chances[i])));
    return option;
  }

  #close() {
    this.found.hidden = true;
    this.search.setAttribute("aria-expanded", "false");
    this.search.removeAttribute("aria-activedescendant");
    this.#active = -1;
  }

  #activate(at) {
    this.found.querySelector(".active")?.classList.remove("active");
    this.#active = at;
    if (at < 0) return this.search.removeAttribute("aria-activedescendant");
    const option = this.found.children[at];
    option.classList.add("active");
    option.scrollIntoView({ block: "nearest" });
    return this.search.setAttribute("aria-activedescendant", option.id);
  }

  #key(event) {
    const last = this.#found.length - 1;
    const open = !this.found.hidden;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (!open) this.#open();
      else if (last >= 0) this.#activate(Math.min(Math.max(this.#active + step, 0), last));
    } else if (event.key === "Enter" && open && this.#active >= 0) {
      event.preventDefault();
      this.#take(this.#found[this.#active]);
    } else if (event.key === "Escape") {
      if (!open) this.search.value = "";
      this.#close();
    }
  }

  #take(i) {
    this.search.value = "";
    this.#close();
    this.choose(i);
  }
}

function text(name, content) {
  return Object.assign(document.createElement("span"), { className: name, textContent: content });
}

function remark(content) {
  const row = Object.assign(document.createElement("li"), { className: "none", role: "option", textContent: content });
  row.setAttribute("aria-disabled", "true");
  return row;
}
