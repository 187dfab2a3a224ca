// Runs a single graph on a picture: node explain.cjs MODULE GRAPH PICTURE SHAPE CLASS OUT, arrays as raw little-endian bytes.
const fs = require("fs");

async function main([module, graph, picture, shape, classIndex, out]) {
  const ort = require(module);
  const session = await ort.InferenceSession.create(graph);
  const bytes = fs.readFileSync(picture);
  const pixels = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const found = await session.run({
    image: new ort.Tensor("float32", pixels, shape.split(",").map(Number)),
    class_index: new ort.Tensor("int64", BigInt64Array.from([BigInt(classIndex)]), [1]),
  });
  for (const [name, tensor] of Object.entries(found)) {
    fs.writeFileSync(`${out}/${name}.bin`, Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength));
  }
}

main(process.argv.slice(2)).catch((error) => { console.error(error.message); process.exit(1); });
