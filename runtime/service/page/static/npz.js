// NumPy's .npz: a zip of .npy files. Stored without compression, as by fusioncam itself, since maps hardly
// compress; so a zip needs a head per file, a directory at the end, and checksums.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(parts) {
  let crc = ~0;
  for (const part of parts) for (const byte of part) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return ~crc >>> 0;
}

/** The head of a .npy file of format 1.0, padded so that the data begin at a multiple of 64 bytes. */
function npyHead(shape) {
  const said = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")}), }`; // of two axes or more
  const text = said.padEnd(Math.ceil((said.length + 11) / 64) * 64 - 11) + "\n";
  return Uint8Array.of(0x93, ...ascii("NUMPY"), 1, 0, text.length & 255, text.length >> 8, ...ascii(text));
}

const ascii = (text) => Array.from(text, (c) => c.charCodeAt(0));

/** Little-endian fields, given as [bytes, value]. */
function fields(...pairs) {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of pairs) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

/**
 * @param maps { name: { shape, data: Float32Array } }; the machine is taken to be little-endian, as all browsers' are.
 * @returns {Blob} that numpy.load reads.
 */
export function npz(maps) {
  const files = [];
  const directory = [];
  let at = 0;
  for (const [method, { shape, data }] of Object.entries(maps)) {
    const name = new TextEncoder().encode(`${method}.npy`);
    const content = [npyHead(shape), new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
    const size = content[0].length + content[1].length;
    // Version, flags (names are UTF-8), method (stored), time, date (1 January 1980), checksum, sizes, length of name.
    const sizes = [[4, size], [4, size], [2, name.length]];
    const facts = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 0x21], [4, crc32(content)], ...sizes];
    const head = fields([4, 0x04034b50], ...facts, [2, 0]);
    directory.push(fields([4, 0x02014b50], [2, 20], ...facts, [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), name);
    files.push(head, name, ...content);
    at += head.length + name.length + size;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const count = directory.length / 2;
  const end = fields([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, length], [4, at], [2, 0]);
  return new Blob([...files, ...directory, end], { type: "application/zip" });
}
