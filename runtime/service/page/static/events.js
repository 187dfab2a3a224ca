// Server-sent events of an answer to POST, which EventSource does not read.

const READ = {
  FP32: (buffer) => new Float32Array(buffer),
  INT64: (buffer) => Array.from(new BigInt64Array(buffer), Number),
};

/** Yields { kind, data } for each event of a body, as they arrive. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) yield event(block);
  }
}

function event(block) {
  const fields = new Map(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  return { kind: fields.get("event"), data: JSON.parse(fields.get("data")) };
}

/** The tensors of an event by name, each { shape, data }: numbers are in base64, as their bytes. */
export function tensors({ outputs = [] }) {
  return Object.fromEntries(outputs.map(({ name, datatype, shape, data }) => [name, { shape, data: numbers(datatype, data) }]));
}

function numbers(datatype, data) {
  if (!(datatype in READ)) return data;
  return READ[datatype](Uint8Array.from(atob(data), (character) => character.charCodeAt(0)).buffer);
}
