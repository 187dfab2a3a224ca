// Answers of the service, as the page shows them.

import { rowsOf } from "./targets.js";

const FIGURES = new Set(["class_index", "probabilities", "logits", "score", "confidence", "title", "area", "region", "label", "box", "detection_score", "detections"]);

/** The methods whose maps an answer holds. */
export const methodsOf = ({ tensors }) => Object.keys(tensors).filter((name) => !FIGURES.has(name));

/** The parts of an answer that the page needs, for its first picture. */
export function told({ tensors, parameters }, methods, config) {
  const map = ({ shape, data }) => ({ shape: shape.slice(-2), data });
  const chances = tensors.probabilities?.data;
  const [index] = tensors.class_index.data;
  return {
    maps: Object.fromEntries(methods.map((method) => [method, map(tensors[method])])),
    classIndex: index,
    region: tensors.region && map(tensors.region),
    chances,
    row: chances ? null : rowsOf(tensors)[0],
    title: chances ? config.labels?.[index] ?? `class ${index}` : tensors.title.data[0],
    verdict: tensors.verdict ? JSON.parse(tensors.verdict.data[0]) : null,
    parameters,
  };
}
