// Pictures on a canvas: a photograph, and over it coalitions, heat of players, regions, blur.
import { lookup, mapOf, page, shares, whole } from "./data.js";

const HEAT = lookup(page.heat);
const SIGNED = lookup(page.signed);
const DARK = 0.3;
const HALF = 0.5;
const EDGE = [255, 94, 0];

async function pixels(uri, width, height) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = width ?? image.naturalWidth;
  canvas.height = height ?? image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

const opened = new Map();

// A photograph's pixels, and the player of each of them; kept, since a replay asks often.
export async function photograph(view) {
  if (!opened.has(view)) {
    if (opened.size > 60) opened.clear();
    opened.set(view, await pixels(view.photo));
  }
  return opened.get(view);
}

const cut = new Map();

async function playersOf(item) {
  if (!cut.has(item.regions)) {
    if (cut.size > 60) cut.clear();
    const { data } = await pixels(mapOf(item.regions));
    cut.set(item.regions, Uint16Array.from({ length: data.length / 4 }, (_, i) => data[4 * i] + 256 * data[4 * i + 1]));
  }
  return cut.get(item.regions);
}

// `pixel(i, r, g, b)` gives the colour of pixel i.
function painted(canvas, photo, pixel) {
  const { width, height, data } = photo;
  const made = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = pixel(i, data[4 * i], data[4 * i + 1], data[4 * i + 2]);
    made.data.set([r, g, b, 255], 4 * i);
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(made, 0, 0);
}

const grey = (r, g, b) => (r + g + b) / 3;

function mixed(r, g, b, table, value, share) {
  const at = 3 * Math.round(255 * value);
  return [r, g, b].map((part, c) => (1 - share) * part + share * table[at + c]);
}

// Whether a pixel has a neighbour of which `inside` says otherwise.
function edge(i, width, length, inside) {
  const mine = inside(i);
  const column = i % width;
  return (column > 0 && inside(i - 1) !== mine) || (column < width - 1 && inside(i + 1) !== mine)
    || (i >= width && inside(i - width) !== mine) || (i + width < length && inside(i + width) !== mine);
}

// The coalition after `k` steps along an order; the player of the last step is outlined.
export async function coalition(canvas, view, item, k) {
  const [photo, players] = [await photograph(view), await playersOf(item)];
  const order = whole(item.order);
  const moved = new Set(k > order.length ? players : order.slice(0, k)); // a search that stopped early is closed by the rest
  const last = k > 0 && k <= order.length ? order[k - 1] : -1;
  const appear = item.objective !== "deletion";
  painted(canvas, photo, (i, r, g, b) => {
    if (players[i] === last && edge(i, photo.width, players.length, (j) => players[j] === last)) return EDGE;
    if (moved.has(players[i]) === appear) return [r, g, b];
    const dim = 0.16 * grey(r, g, b) + 22;
    return [dim, dim, dim];
  });
}

// Heat of players over a dimmed grey photograph.
export async function heat(canvas, view, item, coded = item.heat) {
  const [photo, players] = [await photograph(view), await playersOf(item)];
  const values = shares(coded);
  painted(canvas, photo, (i, r, g, b) => {
    const value = values[players[i]];
    if (value) return mixed(r, g, b, HEAT, value, 0.55);
    const dim = 0.45 * grey(r, g, b);
    return [dim, dim, dim];
  });
}

// The region that a search found, outlined; what hides a mistake's class is darker.
export async function region(canvas, view, item) {
  const [photo, players] = [await photograph(view), await playersOf(item)];
  const order = whole(item.order);
  const { k, cured } = item.region;
  const picked = new Set(k > order.length ? players : order.slice(0, k));
  const inside = (i) => picked.has(players[i]);
  const outside = cured ? DARK : HALF;
  painted(canvas, photo, (i, r, g, b) => {
    if (edge(i, photo.width, players.length, inside)) return EDGE;
    return inside(i) ? [r, g, b] : [outside * r, outside * g, outside * b];
  });
}

// How much of each place a mask blurs.
export async function blur(canvas, view, item) {
  const photo = await photograph(view);
  const blurred = await pixels(item.blur, photo.width, photo.height);
  painted(canvas, photo, (i, r, g, b) => {
    const value = blurred.data[4 * i] / 255;
    const lifted = [r, g, b].map((part) => 0.3 * 255 + 0.6 * part);
    return mixed(...lifted, HEAT, value, 0.7 * Math.min(1, value / item.threshold));
  });
}

// Interactions of all pairs of players as a matrix.
export function pairs(canvas, item) {
  const halves = shares(item.pairs.halves);
  const { n } = item;
  const matrix = new Float64Array(n * n).fill(0.5);
  let at = 0;
  for (let one = 0; one < n; one++) {
    for (let other = one + 1; other < n; other++, at++) matrix[one * n + other] = matrix[other * n + one] = halves[at];
  }
  const scale = Math.ceil(176 / n);
  const side = n * scale;
  painted(canvas, { width: side, height: side, data: new Uint8Array(4 * side * side) }, (i) => {
    const [row, column] = [Math.floor(i / side / scale), Math.floor((i % side) / scale)];
    return mixed(0, 0, 0, SIGNED, matrix[row * n + column], 1);
  });
}

export async function plain(canvas, view) {
  const photo = await photograph(view);
  painted(canvas, photo, (_, r, g, b) => [r, g, b]);
}

// What an item looks like in a list.
export const thumbnail = (canvas, view, item) => (item.blur ? blur(canvas, view, item) : heat(canvas, view, item));

// The scale from what was picked first to what was picked last.
export function scale() {
  const stops = [1, 0.75, 0.5, 0.25, 0].map((value) => HEAT.slice(3 * Math.round(255 * value), 3 * Math.round(255 * value) + 3));
  return `linear-gradient(90deg, ${stops.map((rgb) => `rgb(${rgb.join(",")})`).join(", ")})`;
}
