// Open Inference Protocol v2 with binary tensors: a JSON head, and behind it the tensors' bytes, one after the other.

const HEAD_LENGTH = "Inference-Header-Content-Length";

/**
 * A request: the picture's file as it is, everything else in the head; `outputs` come back as binary tensors.
 * @param choice.always Whether the service explains some pictures only, and is to explain this one.
 */
export function encodeRequest(file, { classIndex, methods, budget, verify, always }, outputs) {
  const head = JSON.stringify({
    inputs: [
      { name: "image_bytes", shape: [1], datatype: "BYTES", parameters: { binary_data_size: file.size + 4 } },
      { name: "class_index", shape: [1], datatype: "INT64", data: [classIndex] },
      { name: "method", shape: [methods.length], datatype: "BYTES", data: methods },
      { name: "budget", shape: [1], datatype: "BYTES", data: [budget] },
    ],
    parameters: { verify, ...(always && { explain_if: "always" }) },
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
