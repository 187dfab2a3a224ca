// Figures and flags in plain words.

const STAGES = {
  decode: "reading the photo",
  preprocess: "preparing the photo",
  explain: "the model and its gradient",
  masked_passes: "masked passes",
  fusion: "making the maps",
  queue: "waiting for its turn",
  encode: "sending the answer",
};

const digits = (x, most) => x.toLocaleString("en", { maximumSignificantDigits: most });

export const seconds = (s) => (s >= 1 ? `${digits(s, 3)} s` : `${digits(1000 * s, 2)} ms`);

/** A share of 1; what is not one, as of a regression, as the number it is. */
export function chance(p) {
  if (p < 0 || p > 1) return digits(p, 4);
  if (p > 0 && p < 0.001) return "< 0.1 %";
  if (p === 0 || p === 1) return `${100 * p} %`;
  return p > 0.999 ? "> 99.9 %" : `${(100 * p).toFixed(p < 0.01 ? 2 : 1)} %`;
}

/** @returns [[term, text]] about how an answer came about. */
export function facts(parameters) {
  const stages = Object.entries(parameters)
    .filter(([name, value]) => name.startsWith("seconds_") && value >= 0.0005)
    .map(([name, value]) => [name.slice("seconds_".length), value])
    .sort((a, b) => b[1] - a[1]);
  const { passes, channels, error, layer } = parameters;
  const waited = stages.reduce((left, [, value]) => left - value, parameters.seconds);
  if (waited > 0.05 * parameters.seconds) stages.push(["waiting", waited]);
  const took = stages.map(([stage, value]) => `${STAGES[stage] ?? stage.replaceAll("_", " ")} ${seconds(value)}`);
  const small = error < 1e-4 ? "below 0.0001" : error?.toPrecision(1); // 1 - r^2, r to the exact map
  const off = error ? `; estimated error ${small}` : "";
  const of = !layer ? "the layer has" : layer.includes(" + ") ? `layers ${layer} have` : `layer ${layer} has`;
  const ran = [passes.toLocaleString("en"), `${of} ${count(channels, "channel")}${off}`];
  return [
    ["Time", [seconds(parameters.seconds), took.join(", ")]],
    ["Masked passes", passes ? ran : ["none", "the methods chosen need none"]],
  ];
}

export const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : what.endsWith("s") ? "es" : "s"}`;

/** Where a map is strongest, and how far it reaches. */
export function place({ shape: [height, width], data }) {
  let best = 0;
  let above = 0;
  for (let i = 0; i < data.length; i++) {
    if (data[i] > data[best]) best = i;
    if (data[i] >= 0.5) above++;
  }
  if (!(data[best] > 0)) return "blank";
  const third = (at, size, names) => names[Math.min(2, Math.floor((3 * at) / size))];
  const row = third(Math.floor(best / width), height, ["top", "middle", "bottom"]);
  const column = third(best % width, width, ["left", "centre", "right"]);
  return `strongest at ${row} ${column}, at half its strength or more on ${chance(above / data.length)} of what the model sees`;
}
