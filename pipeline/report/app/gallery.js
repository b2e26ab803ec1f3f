// Lists of images: filters, order, cards that are drawn when they come into sight.
import { entries, imageOf, page } from "./data.js";
import { choice, distinct, element, number } from "./dom.js";
import { heat, plain, region, thumbnail } from "./paint.js";
import { address, replaced } from "./route.js";

const STEP = 24;
const RIGHT = [["", "all"], ["right", "predicted right"], ["wrong", "mistaken"], ["unknown", "label unknown"]];
const ORDERS = [["", "as in the data set"], ["disagreement", "biggest disagreement"], ["best", "the method's best first"], ["worst", "the method's worst first"]];
const BETTER = { insertion: 1, deletion: -1 };

// How far methods' areas of an image are apart, for the objective where they are most.
export function disagreement(entry) {
  const by = {};
  for (const [, objective, area] of entry.areas) (by[objective] ??= []).push(area);
  return Math.max(0, ...Object.values(by).map((areas) => Math.max(...areas) - Math.min(...areas)));
}

// How well a method, or the best of all, does on an image: larger is better.
function merit(entry, method) {
  const mine = entry.areas.filter(([title, objective]) => (!method || title === method) && objective in BETTER);
  return mine.length ? Math.max(...mine.map(([, objective, area]) => BETTER[objective] * area)) : -Infinity;
}

export function chosen(query) {
  const asked = { right: query.get("right") ?? "", target: query.get("class") ?? "", method: query.get("method") ?? "", order: query.get("order") ?? "", key: query.get("key") ?? "" };
  const said = (entry) => (entry.right === null ? "unknown" : entry.right ? "right" : "wrong");
  const mine = page.index.filter((entry) => (!asked.right || said(entry) === asked.right)
    && (!asked.target || entry.target === asked.target)
    && (!asked.method || entry.titles.includes(asked.method))
    && (!asked.key || entry.id.toLowerCase().includes(asked.key.toLowerCase())));
  if (asked.order === "disagreement") mine.sort((one, other) => disagreement(other) - disagreement(one));
  if (asked.order === "best") mine.sort((one, other) => merit(other, asked.method) - merit(one, asked.method));
  if (asked.order === "worst") mine.sort((one, other) => merit(one, asked.method) - merit(other, asked.method));
  return mine;
}

const part = (name, list) => document.querySelector(`[data-${name}="${list}"]`);

export function images({ query }) {
  const form = part("filters", "images");
  const set = (name, value) => {
    const next = new URLSearchParams(location.hash.split("?")[1] ?? "");
    if (value) next.set(name, value);
    else next.delete(name);
    replaced("images", "", Object.fromEntries(next));
    list("images", chosen(next), next, next.get("method") ?? "");
  };
  const targets = distinct(page.index.map((entry) => entry.target)).filter(Boolean).sort();
  const titles = distinct(page.index.flatMap((entry) => entry.titles));
  form.setAttribute("aria-label", "filters");
  form.onsubmit = (event) => event.preventDefault();
  form.replaceChildren(
    choice("class explained", [["", "all"], ...targets.map((name) => [name, name])], query.get("class") ?? "", (value) => set("class", value)),
    choice("prediction", RIGHT, query.get("right") ?? "", (value) => set("right", value)),
    choice("method", [["", "all"], ...titles.map((name) => [name, name])], query.get("method") ?? "", (value) => set("method", value)),
    choice("order", ORDERS, query.get("order") ?? "", (value) => set("order", value)),
    element("label", {}, "name", element("input", { type: "search", "aria-label": "name", value: query.get("key") ?? "", oninput: (event) => set("key", event.target.value) })),
  );
  list("images", chosen(query), query, query.get("method") ?? "");
}

export function mistakes() {
  const mine = page.index.filter((entry) => entry.mistaken);
  list("mistakes", mine, new URLSearchParams(), "");
  const missed = page.index.filter((entry) => entry.right === false).length;
  if (!mine.length && missed) {
    part("count", "mistakes").textContent = `${missed} of ${page.index.length} images are mistaken, but explained for what is predicted: target=label of jobs.evaluate explains them for their label.`;
  }
}

function list(name, mine, query, method) {
  const [cards, more, count] = [part("cards", name), part("more", name), part("count", name)];
  const what = name === "mistakes" ? `${mine.length} of ${page.index.length} images; ${mine.filter((e) => e.cured).length} can be cured by hiding a part` : `${mine.length} of ${page.index.length} images`;
  count.textContent = page.index.length ? what : "No image is shown; gallery=<number> of jobs.aggregate sets how many.";
  cards.replaceChildren();
  let shown = 0;
  const grow = () => {
    const next = mine.slice(shown, shown + STEP);
    cards.append(...next.map((entry) => (name === "mistakes" ? mistake(entry) : card(entry, query, method))));
    shown += next.length;
    more.hidden = shown >= mine.length;
  };
  more.onclick = grow;
  grow();
}

const waiting = new Map();
const seen = new IntersectionObserver((found) => {
  for (const { isIntersecting, target } of found) {
    if (isIntersecting && waiting.has(target)) {
      seen.unobserve(target);
      waiting.get(target)();
      waiting.delete(target);
    }
  }
}, { rootMargin: "300px" });

// A canvas that is drawn once it is near.
export function lazily(canvas, draw) {
  waiting.set(canvas, draw);
  seen.observe(canvas);
}

// The item of a method, or the one with the best area, insertion before deletion.
function favourite(image, method) {
  for (const view of image.views) {
    const mine = view.items.filter((item) => !method || item.title === method);
    const [first] = mine.sort((one, other) => (one.objective !== "insertion") - (other.objective !== "insertion") || (other.area ?? 0) - (one.area ?? 0));
    if (first) return [view, first];
  }
  return [image.views[0], null];
}

function card(entry, query, method) {
  const canvas = element("canvas", { width: 224, height: 224, role: "img", "aria-label": `${entry.key}: ${entry.target}` });
  const said = element("span", { class: "quiet" });
  const href = address("image", entry.id, Object.fromEntries(query));
  const verdict = entry.right === null ? "" : entry.right ? "" : "mistaken: ";
  const made = element("li", {}, element("a", { href }, canvas, element("b", {}, entry.key), element("br"), `${verdict}${entry.predicted || entry.errors[0] || ""}`, element("br"), said));
  lazily(canvas, async () => {
    const [view, item] = favourite(await imageOf(entry), method);
    if (item) {
      said.textContent = `${item.title}${item.objective === "mask" ? "" : `, ${item.objective}`}${item.area === null ? "" : ` ${number(item.area)}`}`;
      await thumbnail(canvas, view, item);
    } else if (view) await plain(canvas, view);
  });
  return made;
}

function mistake(entry) {
  const canvas = element("canvas", { width: 224, height: 224, role: "img", "aria-label": `${entry.key}: ${entry.target}` });
  const said = element("span", {});
  const made = element("li", {}, element("a", { href: address("image", entry.id) }, canvas, element("b", {}, entry.key), element("br"),
    `predicted ${entry.predicted}, explained for ${entry.target}`, element("br"), said));
  lazily(canvas, async () => {
    const { views } = await imageOf(entry);
    const found = views.flatMap((view) => view.items.map((item) => [view, item])).filter(([view]) => view.mistaken);
    const best = found.filter(([, item]) => item.region).sort(([, one], [, other]) => other.region.cured - one.region.cured)[0] ?? found[0];
    if (!best) return;
    const [view, item] = best;
    said.textContent = `${item.title}: ${item.region?.caption ?? item.caption}`;
    canvas.setAttribute("aria-label", `${entry.key}: ${said.textContent}`);
    await (item.region ? region(canvas, view, item) : item.blur ? thumbnail(canvas, view, item) : heat(canvas, view, item));
  });
  return made;
}

export const neighbours = (id, query) => {
  const mine = chosen(query).map((entry) => entry.id);
  const at = mine.indexOf(id);
  return [mine[at - 1], at < 0 ? undefined : mine[at + 1]].map((other) => entries.get(other));
};
