// One look for a method wherever it is drawn: methods differ by colour, variants by dashes.
import { page } from "./data.js";
import { isDark } from "./theme.js";
import { distinct } from "./dom.js";

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const methods = distinct(page.curves.map((curve) => curve.method));
const variants = distinct(page.curves.map((curve) => curve.variant));

// On a dark ground colours are mixed with white.
export function shade(hex, alpha = 1) {
  const mix = isDark() ? 0.35 : 0;
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${parts.map((part) => Math.round(part + (255 - part) * mix)).join(",")},${alpha})`;
}

export function look(curve) {
  const place = Math.max(0, methods.indexOf(curve.method));
  const cycle = Math.floor(place / page.colours.length);
  const variant = Math.max(0, variants.indexOf(curve.variant));
  return {
    colour: page.colours[place % page.colours.length],
    dash: DASHES[(variant + cycle) % DASHES.length],
  };
}

// The two methods of a replay.
export const PAIR = [{ colour: page.colours[0], dash: [] }, { colour: page.colours[1], dash: [7, 4] }];
