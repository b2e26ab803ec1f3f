// One image: two orders replayed player by player beside each other, while dots move along curves.
import { chart } from "./chart.js";
import { curveOf, entries, imageOf } from "./data.js";
import { QUANTITIES, axes } from "./curves.js";
import { choice, distinct, element, number } from "./dom.js";
import { lazily, neighbours } from "./gallery.js";
import { PAIR } from "./looks.js";
import { coalition, heat, pairs, plain, region, scale, thumbnail } from "./paint.js";
import { address, replaced } from "./route.js";

const PAUSE_MS = 350;
let stop = () => {};

export async function image({ id, query }) {
  stop();
  const entry = entries.get(id);
  const [title, place, host] = ["title", "place", "replay"].map((name) => document.querySelector(`[data-${name}]`));
  title.textContent = entry?.key ?? "No such image";
  place.replaceChildren();
  host.replaceChildren();
  if (!entry) {
    host.append(element("p", {}, `The report shows no ${id}. `, element("a", { href: address("images") }, "All images")));
    return;
  }
  const [before, after] = neighbours(id, query);
  const passed = Object.fromEntries([...query].filter(([name]) => ["class", "right", "method", "order", "key"].includes(name)));
  place.append(id, " · ", element("a", { href: address("images", "", passed) }, "all images"),
    ...(before ? [" · ", element("a", { href: address("image", before.id, passed), rel: "prev" }, `← ${before.key}`)] : []),
    ...(after ? [" · ", element("a", { href: address("image", after.id, passed), rel: "next" }, `${after.key} →`)] : []));
  try {
    const { views, errors } = await imageOf(entry);
    for (const error of errors) host.append(element("p", { class: "error" }, error));
    views.forEach((view, i) => host.append(...shown(entry, view, views.length > 1, i === 0, query)));
  } catch (error) {
    host.append(element("p", { class: "error" }, `The image could not be loaded: ${error.message}`));
  }
}

function shown(entry, view, several, first, query) {
  const said = ["predicted", "target", "label"].filter((name) => view.classes[name]).map((name) => `${name} ${view.classes[name]}`).join(", ");
  const seen = element("canvas", { width: 224, height: 224, role: "img", "aria-label": "the photograph" });
  lazily(seen, () => plain(seen, view));
  const played = view.items.filter((item) => item.fraction);
  const parts = [element("p", {}, ...(several ? [element("b", {}, `As ${view.model} sees it`), ": "] : []), said)];
  const tiles = element("ul", { class: "tiles" }, element("li", {}, seen, element("b", {}, "as the model sees it"), element("br"), said));
  if (played.length) parts.push(player(entry, view, played, first, query));
  for (const item of view.items) tiles.append(...pictures(view, item));
  const legend = element("span", { class: "scale", role: "img", "aria-label": "bright to dark" });
  legend.style.background = scale();
  parts.push(element("h2", {}, "Orders on the photograph"),
    element("p", { class: "quiet" }, "Players picked until the flip: picked first ", legend, " picked last. Values of a search fall along its order by what each pick changes. The region, outlined, is where an insertion curve is highest; of a mistake it is where the class explained becomes the prediction, and the rest is dark."),
    tiles);
  return parts;
}

function pictures(view, item) {
  const objective = item.objective === "mask" ? "" : `, ${item.objective}`;
  const tile = (name, caption, draw) => {
    const canvas = element("canvas", { width: 224, height: 224, role: "img", "aria-label": `${name}: ${caption}` });
    lazily(canvas, () => draw(canvas));
    return element("li", {}, canvas, element("b", {}, name), element("br"), caption);
  };
  const found = [tile(`${item.title}${objective}`, item.caption, (canvas) => thumbnail(canvas, view, item))];
  if (item.pairs) {
    const most = item.pairs.largest.toPrecision(2);
    found.push(tile(`${item.title}, pairs`, `interactions of all pairs, blue -${most} to red ${most}`, (canvas) => pairs(canvas, item)));
  }
  if (item.values) found.push(tile(`${item.title}, values`, `darker by what each pick changes${item.both ? ", both ways" : ""}`, (canvas) => heat(canvas, view, item, item.values)));
  if (item.region) found.push(tile(`${item.title}, ${item.region.cured ? "dark regions" : "searched region"}`, item.region.caption, (canvas) => region(canvas, view, item)));
  return found;
}

function player(entry, view, items, first, query) {
  const host = element("div", { class: "replayed" });
  const objectives = distinct(items.map((item) => item.objective));
  const asked = first ? query : new URLSearchParams();
  const state = { o: objectives.includes(asked.get("o")) ? asked.get("o") : objectives[0], q: asked.get("q") ?? "probability", k: Number(asked.get("k") ?? 0) || 0 };
  const of = (objective) => items.filter((item) => item.objective === objective);
  const start = () => {
    const mine = of(state.o);
    const ranked = [...mine].sort((one, other) => (state.o === "deletion" ? 1 : -1) * ((one.area ?? 0) - (other.area ?? 0)));
    const pick = (name, otherwise) => (mine.find((item) => item.title === name) ?? otherwise).title;
    state.a = pick(state.a ?? asked.get("a") ?? asked.get("method"), ranked[0]);
    state.b = pick(state.b ?? asked.get("b"), ranked.find((item) => item.title !== state.a) ?? ranked[0]);
  };
  const draw = () => {
    stop();
    const sides = ["a", "b"].map((side) => of(state.o).find((item) => item.title === state[side]));
    const curves = sides.map(curveOf);
    const most = Math.max(...curves.map((curve) => curve.fraction.length - 1));
    state.k = Math.min(state.k, most);
    const quantities = Object.keys(QUANTITIES).filter((name) => curves.every((curve) => curve[name]));
    if (!quantities.includes(state.q)) [state.q] = quantities;
    const titles = of(state.o).map((item) => [item.title, item.title]);
    const change = (name) => (value) => {
      state[name] = value;
      if (name === "o") start();
      draw();
    };
    const canvases = sides.map((item) => element("canvas", { width: 224, height: 224, role: "img", "data-canvas": item.title }));
    const told = sides.map(() => element("p", {}));
    const slider = element("input", { type: "range", min: 0, max: most, value: state.k, step: 1, "aria-label": "players along the order" });
    const play = element("button", { type: "button" }, "Play");
    const drawn = element("div", {});
    const live = element("p", { class: "quiet", role: "status" });
    host.replaceChildren(
      element("form", { class: "controls", "aria-label": "what is replayed" },
        choice("objective", objectives.map((name) => [name, name]), state.o, change("o")),
        choice("quantity", quantities.map((name) => [name, QUANTITIES[name]]), state.q, change("q"))),
      element("div", { class: "stage" }, ...["a", "b"].map((side, i) => element("div", {}, choice(i ? "beside" : "order of", titles, state[side], change(side)), canvases[i], told[i]))),
      element("div", { class: "player" }, play, slider), live, drawn);
    const lines = sides.map((item, i) => ({ title: `${item.title}${i && state.a === state.b ? " " : ""}`, look: PAIR[i], x: curves[i].fraction, mean: curves[i][state.q], dot: state.k }));
    const plot = chart(drawn, { lines, x: `fraction of pixels ${state.o === "deletion" ? "deleted" : "inserted"}`, y: QUANTITIES[state.q], range: axes(state.q), said: `${QUANTITIES[state.q]} of ${state.a} and ${state.b} along ${state.o}`, height: 260 });
    const step = (k) => {
      state.k = Math.max(0, Math.min(most, k));
      slider.value = state.k;
      slider.setAttribute("aria-valuetext", `${state.k} of ${most}`);
      sides.forEach((item, i) => {
        const at = Math.min(state.k, curves[i].fraction.length - 1);
        told[i].textContent = sentence(item, curves[i], at);
        canvases[i].setAttribute("aria-label", `${item.title}: ${told[i].textContent}`);
        canvases[i].dataset.k = at;
        coalition(canvases[i], view, item, at);
      });
      live.textContent = `Step ${state.k} of ${most}. Arrow keys move the slider.`;
      plot.move(sides.map((_, i) => Math.min(state.k, curves[i].fraction.length - 1)));
      if (first) remember();
    };
    const remember = () => {
      const filters = Object.fromEntries([...query].filter(([name]) => ["class", "right", "method", "order", "key"].includes(name)));
      replaced("image", entry.id, { ...filters, a: state.a, b: state.b, o: state.o, q: state.q, k: state.k });
    };
    slider.addEventListener("input", () => step(Number(slider.value)));
    play.addEventListener("click", () => running(play, () => {
      step(state.k >= most ? 0 : state.k + 1);
      return state.k < most;
    }));
    if (first) host.move = (by) => step(state.k + by);
    step(state.k);
  };
  start();
  draw();
  const again = () => (host.isConnected ? draw() : document.removeEventListener("theme", again));
  document.addEventListener("theme", again);
  return host;
}

function running(button, next) {
  if (button.dataset.timer) {
    stop();
    return;
  }
  const timer = setInterval(() => next() || stop(), PAUSE_MS);
  button.dataset.timer = timer;
  button.textContent = "Pause";
  stop = () => {
    clearInterval(timer);
    delete button.dataset.timer;
    button.textContent = "Play";
    stop = () => {};
  };
}

function sentence(item, curve, k) {
  const share = `${Math.round(100 * curve.fraction[k])} % of the pixels ${item.objective === "deletion" ? "hidden" : "shown"}`;
  const said = curve.probability ? `probability ${number(curve.probability[k])}` : `output ${number(curve.log_odds?.[k])}`;
  const top = curve.top1 ? (curve.top1[k] ? ", the prediction" : ", not the prediction") : "";
  return `${k} of ${item.n} players, ${share}: ${said}${top}`;
}

// Arrow keys move the replay wherever no control wants them for itself.
export function keys(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const host = document.querySelector("#image.shown .replayed");
  if (!by || !host?.move || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest?.("input, select, textarea, .scroll")) return;
  event.preventDefault();
  host.move(by);
}

document.addEventListener("keydown", keys);
