// Open Inference Protocol v2 with binary tensors: a JSON head, and behind it the tensors' bytes, one after the other.

const HEAD_LENGTH = "Inference-Header-Content-Length";

/**
 * A request: the files of pictures as they are, everything else in the head; `outputs` come back as binary tensors, or in JSON.
 * @param files By the names of their inputs.
 * @param choice.target Parameters that name the target.
 * @param choice.always Whether the service explains some pictures only, and is to explain this one.
 */
export function encodeRequest(files, { target, methods, budget, verify, always }, outputs, binary = true) {
  const head = JSON.stringify({
    inputs: [
      ...Object.entries(files).map(([name, { size }]) => ({ name, shape: [1], datatype: "BYTES", parameters: { binary_data_size: size + 4 } })),
      ...(methods.length ? [{ name: "method", shape: [methods.length], datatype: "BYTES", data: methods }] : []),
      { name: "budget", shape: [1], datatype: "BYTES", data: [budget] },
    ],
    parameters: { verify, ...target, ...(always && { explain_if: "always" }) },
    outputs: outputs.map((name) => ({ name, parameters: { binary_data: binary } })),
  });
  const bytes = new TextEncoder().encode(head);
  return {
    headers: { "Content-Type": "application/octet-stream", [HEAD_LENGTH]: String(bytes.length) },
    body: new Blob([bytes, ...Object.values(files).flatMap((file) => [lengthOf(file), file])]),
  };
}

/** Every element of BYTES begins with its length. */
function lengthOf({ size }) {
  const length = new DataView(new ArrayBuffer(4));
  length.setUint32(0, size, true);
  return length;
}
