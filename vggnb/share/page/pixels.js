"use strict";
// An image file -> the pixels that Python gives for it (vggnb/images.py): 8 bits a channel, upright, transparent parts
// on white, resized without keeping the aspect ratio, with the arithmetic of Pillow.

const STRIP = 256; // rows that are on a canvas at a time: phones limit the size of a canvas
const BITS = 22; // of Pillow's fixed-point weights for 8-bit channels
const MOST_SIDE = 16384; // pixels of a canvas

class Refused extends Error {} // its message is a sentence for the reader

const CUT = "The file is damaged or cut short.";
const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

/** Width and height from a file's first bytes, before anything is decoded; refuses what a browser decodes otherwise. */
function header(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 32) throw new Refused("Not an image, or cut short.");
  if (view.getUint16(0) === 0xffd8) return jpegHeader(bytes, view);
  if (text(bytes, 1, 4) === "PNG") {
    if (bytes[24] === 16) throw new Refused("16 bits a channel: save it with 8 first.");
    if (!text(bytes, bytes.length - Math.min(bytes.length, 4096), bytes.length).includes("IEND")) throw new Refused(CUT);
    return [view.getUint32(16), view.getUint32(20)];
  }
  if (text(bytes, 0, 3) === "GIF") return [view.getUint16(6, true), view.getUint16(8, true)];
  if (text(bytes, 0, 2) === "BM") return [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))];
  if (text(bytes, 0, 4) === "RIFF" && text(bytes, 8, 12) === "WEBP") {
    if (view.getUint32(4, true) + 8 > bytes.length) throw new Refused(CUT);
    if (isTurned(bytes, view)) throw new Refused("A WebP that is to be turned, which browsers do not do: turn it upright and save it.");
    const kind = text(bytes, 12, 16), packed = view.getUint32(21, true);
    if (kind === "VP8L") return [(packed & 0x3fff) + 1, ((packed >> 14) & 0x3fff) + 1];
    if (kind === "VP8 ") return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
    return [(view.getUint32(24, true) & 0xffffff) + 1, (view.getUint32(26, true) >> 8) + 1];
  }
  if (/ftyp(hei|hev|mif)/.test(text(bytes, 4, 12)))
    throw new Refused("HEIC images cannot be read here: export it as JPEG (iPhone: Settings, Camera, Formats, Most Compatible).");
  throw new Refused("Not an image that can be read here (JPEG, PNG, WebP, GIF, BMP).");
}

/** Whether the EXIF chunk of a WebP says that the image does not stand upright. */
function isTurned(bytes, view) {
  let at = 12;
  while (at + 20 < bytes.length && text(bytes, at, at + 4) !== "EXIF") at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) % 2);
  if (at + 20 >= bytes.length) return false;
  at += text(bytes, at + 8, at + 12) === "Exif" ? 14 : 8;
  const little = bytes[at] === 0x49, table = at + view.getUint32(at + 4, little);
  if (table + 2 > bytes.length) return false;
  for (let k = 0, entry = table + 2; k < view.getUint16(table, little) && entry + 12 <= bytes.length; k += 1, entry += 12)
    if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little) !== 1;
  return false;
}

function jpegHeader(bytes, view) {
  let size = null;
  for (let at = 2; at + 10 < bytes.length && bytes[at] === 0xff; ) {
    const marker = bytes[at + 1];
    if (marker === 0xff) { at += 1; continue; } // padding
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      if (bytes[at + 9] === 4) throw new Refused("Its colours are for print (CMYK): save it as RGB first.");
      size = [view.getUint16(at + 7), view.getUint16(at + 5)];
    }
    if (marker === 0xda) { // the data begin: in them, ff d9 is the end and nothing else
      for (let end = bytes.indexOf(0xff, at + 2); end >= 0; end = bytes.indexOf(0xff, end + 1))
        if (bytes[end + 1] === 0xd9 && size) return size;
      break;
    }
    at += 2 + view.getUint16(at + 2);
  }
  throw new Refused(CUT);
}

/** Decode a file with the browser: an upright ImageBitmap, its colours as they are stored. */
async function decoded(file, most) {
  if (!file.size) throw new Refused("The file is empty (0 bytes).");
  const large = "Make the image smaller with any photo program.";
  if (file.size > most.bytes)
    throw new Refused(`${Math.round(file.size / 1e6)} MB; the limit is ${most.bytes / 1e6} MB. ${large}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const [width, height] = header(bytes);
  if (width * height > most.pixels || Math.max(width, height) > MOST_SIDE)
    throw new Refused(`${width} x ${height} pixels; the limit is ${most.pixels / 1e6} million. ${large}`);
  try {
    return await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Refused(CUT);
  }
}

/** For each of `to` pixels along a side of `from`: the first pixel it takes, and the weight of each, as Pillow has it. */
function weights(from, to, resize) {
  const scale = from / to, found = [];
  if (resize === "nearest") {
    for (let k = 0, at = scale / 2; k < to; k += 1, at += scale) found.push({ first: Math.floor(at), parts: [1 << BITS] });
    return found;
  }
  const support = Math.max(scale, 1);
  for (let k = 0; k < to; k += 1) {
    const centre = (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const parts = [];
    for (let x = first; x < last; x += 1) parts.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) / support)));
    const sum = parts.reduce((one, other) => one + other, 0);
    found.push({ first, parts: parts.map((part) => Math.trunc(0.5 + (part / sum) * (1 << BITS))) });
  }
  return found;
}

/** An image -> RGB Uint8ClampedArray of size x size x 3: along each row first, a strip at a time; then down the columns. */
function resized(bitmap, size, resize) {
  const { width, height } = bitmap;
  const across = width === size ? null : weights(width, size, resize);
  const down = height === size ? null : weights(height, size, resize);
  const narrow = new Uint8ClampedArray(height * size * 3);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, Math.min(STRIP, height)];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    context.fillStyle = "white";
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
    const strip = context.getImageData(0, 0, width, rows).data;
    for (let y = 0; y < rows; y += 1)
      for (let x = 0; x < size; x += 1)
        mixed(strip, 4 * y * width, 4, across ? across[x] : null, x, narrow, 3 * ((top + y) * size + x));
  }
  if (!down) return narrow;
  const small = new Uint8ClampedArray(size * size * 3);
  for (let y = 0; y < size; y += 1)
    for (let x = 0; x < size; x += 1) mixed(narrow, 3 * x, 3 * size, down[y], y, small, 3 * (y * size + x));
  return small;
}

/** One pixel: the weighted sum of pixels that lie `step` apart; without weights, the one at `place`. */
function mixed(source, start, step, weight, place, target, at) {
  const { first, parts } = weight ?? { first: place, parts: [1 << BITS] };
  for (let channel = 0; channel < 3; channel += 1) {
    let sum = 1 << (BITS - 1);
    for (let k = 0, from = start + first * step + channel; k < parts.length; k += 1, from += step) sum += source[from] * parts[k];
    target[at + channel] = sum >> BITS;
  }
}
