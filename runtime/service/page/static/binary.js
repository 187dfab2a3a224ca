// Open Inference Protocol v2 with binary tensors: a JSON head, and behind it the tensors' bytes, one after the other.

export const HEAD_LENGTH = "Inference-Header-Content-Length";

const READ = {
  FP32: (buffer) => new Float32Array(buffer),
  INT64: (buffer) => Array.from(new BigInt64Array(buffer), Number),
};

/** A request: the picture's file as it is, everything else in the head; `outputs` come back as binary tensors. */
export function encodeRequest(file, { classIndex, methods, budget, verify }, outputs) {
  const head = JSON.stringify({
    inputs: [
      { name: "image_bytes", shape: [1], datatype: "BYTES", parameters: { binary_data_size: file.size + 4 } },
      { name: "class_index", shape: [1], datatype: "INT64", data: [classIndex] },
      { name: "method", shape: [methods.length], datatype: "BYTES", data: methods },
      { name: "budget", shape: [1], datatype: "BYTES", data: [budget] },
    ],
    parameters: { verify },
    outputs: outputs.map((name) => ({ name, parameters: { binary_data: true } })),
  });
  const length = new DataView(new ArrayBuffer(4)); // every element of BYTES begins with its length
  length.setUint32(0, file.size, true);
  const bytes = new TextEncoder().encode(head);
  return {
    headers: { "Content-Type": "application/octet-stream", [HEAD_LENGTH]: String(bytes.length) },
    body: new Blob([bytes, length, file]),
  };
}

/** The tensors of an answer by name, each { shape, data }, and its parameters. */
export function decodeAnswer(buffer, headLength) {
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 0, headLength)));
  const tensors = {};
  let at = headLength;
  for (const { name, shape, datatype, data, parameters } of head.outputs) {
    const size = parameters?.binary_data_size;
    tensors[name] = { shape, data: size === undefined ? data : READ[datatype](buffer.slice(at, at + size)) };
    at += size ?? 0;
  }
  return { tensors, parameters: head.parameters ?? {} };
}
