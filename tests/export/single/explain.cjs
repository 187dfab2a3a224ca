// Runs a graph: node explain.cjs MODULE GRAPH FEEDS OUT. FEEDS is JSON of {name: [type, shape]}, arrays lie beside it as raw
// little-endian bytes, NAME.in; outputs are written to OUT/NAME.bin.
const fs = require("fs");
const path = require("path");

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };

async function main([module, graph, feeds, out]) {
  const ort = require(module);
  const session = await ort.InferenceSession.create(graph);
  const given = {};
  for (const [name, [type, shape]] of Object.entries(JSON.parse(fs.readFileSync(feeds, "utf8")))) {
    const bytes = fs.readFileSync(path.join(path.dirname(feeds), `${name}.in`));
    const whole = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    given[name] = new ort.Tensor(type, new ARRAYS[type](whole), shape);
  }
  for (const [name, tensor] of Object.entries(await session.run(given))) {
    fs.writeFileSync(`${out}/${name}.bin`, Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength));
  }
}

main(process.argv.slice(2)).catch((error) => { console.error(error.message); process.exit(1); });
