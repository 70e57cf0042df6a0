// A zip file of small texts, which are stored and not compressed (PKWARE APPNOTE 6.3.10).

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// `fields` are pairs of a width in bytes and a value.
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [width]) => sum + width, 0)));
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return view.buffer;
}

const UTF8_NAMES = 0x0800, VERSION = 20, DAY = 0x21; // 1 January 1980: no time is kept

// `files` are pairs of a name and a text.
export function zip(files) {
  const encoder = new TextEncoder(), parts = [], directory = [];
  let offset = 0, length = 0;
  for (const [name, text] of files) {
    const path = encoder.encode(name), bytes = encoder.encode(text);
    const about = [[2, VERSION], [2, UTF8_NAMES], [2, 0], [2, 0], [2, DAY], [4, crc32(bytes)],
      [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]];
    parts.push(record([4, 0x04034b50], ...about), path, bytes);
    directory.push(record([4, 0x02014b50], [2, VERSION], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += 30 + path.length + bytes.length;
    length += 46 + path.length;
  }
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
