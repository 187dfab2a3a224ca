// The verdict on a map: a badge, its reasons, and the figures behind it.

const FIGURES = ["drop", "insertion", "deletion", "support"];

/** Shows a verdict as the service gives it, or nothing for null. */
export function drawVerdict(parent, verdict, methods) {
  parent.hidden = !verdict;
  if (!verdict) return;
  const title = methods.find(({ name }) => name === verdict.method)?.title ?? verdict.method;
  const badge = made("strong", verdict.stable ? verdict.name : `${verdict.name}, unstable`);
  badge.className = `badge ${verdict.name}`;
  const head = made("p", `${title} is `);
  head.append(badge);
  const reasons = made("ul");
  reasons.append(...verdict.reasons.map((reason) => made("li", reason)));
  parent.replaceChildren(head, reasons, ...figures(verdict.figures));
}

function figures(of) {
  const rows = Object.entries(of);
  if (!rows.length) return []; // nothing was asked about a blank map
  const table = made("table");
  table.append(
    row("th", ["", ...FIGURES]),
    ...rows.map(([version, values]) => row("td", [version, ...FIGURES.map((name) => values[name]?.toFixed(2) ?? "none")])),
  );
  const details = made("details");
  details.append(made("summary", "Figures of the map and of its controls"), table);
  return [details];
}

function row(kind, texts) {
  const tr = made("tr");
  tr.append(...texts.map((text, n) => made(n ? kind : "th", text)));
  return tr;
}

const made = (kind, textContent = "") => Object.assign(document.createElement(kind), { textContent });
