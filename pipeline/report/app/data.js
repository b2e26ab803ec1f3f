// What the page holds: numbers as short text, images one by one or in chunks beside the page.

const text = (id) => document.getElementById(id).textContent;

export const page = JSON.parse(text("data"));
export const entries = new Map(page.index.map((entry) => [entry.id, entry]));

const maps = new Map(Object.entries(JSON.parse(text("regions"))));
const images = new Map();
const chunks = new Map();

globalThis.pixelQuorum = {
  chunk(number, content) {
    for (const [name, uri] of Object.entries(content.regions)) maps.set(name, uri);
    for (const entry of page.index) {
      if (entry.chunk === number) images.set(entry.id, content.images[entry.place]);
    }
  },
};

function load(number) {
  if (!chunks.has(number)) {
    chunks.set(number, new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `images/${number}.js`;
      script.onload = done;
      script.onerror = () => failed(new Error(`images/${number}.js is not beside the page`));
      document.head.append(script);
    }));
  }
  return chunks.get(number);
}

// Images lie at the end of the page, which works before they are there.
async function arrived(id) {
  if (!document.getElementById(id) && document.readyState === "loading") {
    await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
  }
}

// Photographs and items of an image of the index.
export async function imageOf(entry) {
  if (!images.has(entry.id)) {
    if (entry.chunk) await load(entry.chunk);
    else {
      await arrived(`image-${entry.place}`);
      images.set(entry.id, JSON.parse(text(`image-${entry.place}`)));
    }
  }
  return images.get(entry.id);
}

// A map of players as a data URI.
export const mapOf = (name) => maps.get(name);

function bytes(coded) {
  const raw = atob(coded);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}

export const shares = (coded) => Array.from(bytes(coded), (value) => value / 255);
export const lookup = (coded) => bytes(coded);
export const whole = (coded) => Array.from(new Uint16Array(bytes(coded).buffer));
const units = (coded) => Array.from(new Uint16Array(bytes(coded).buffer), (value) => value / 65535);
const hundredths = (coded) => Array.from(new Int16Array(bytes(coded).buffer), (v) => v / 100);

// An item's curve: fractions and each quantity that it has.
export function curveOf(item) {
  const found = {};
  if (!item.fraction) return null;
  found.fraction = units(item.fraction);
  if (item.probability) found.probability = units(item.probability);
  if (item.top1) found.top1 = Array.from(item.top1, Number);
  if (item.log_odds) found.log_odds = hundredths(item.log_odds);
  return found;
}
