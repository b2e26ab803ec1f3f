// Mean curves, switched between objectives, quantities, subsets of images and whatever else varies.
import { chart } from "./chart.js";
import { page } from "./data.js";
import { choice, distinct, element, number } from "./dom.js";
import { look } from "./looks.js";

export const QUANTITIES = { probability: "probability of the target", top1: "accuracy: target is top-1", log_odds: "log-odds of the target" };
const SUBSETS = { all: "all images", correct: "predicted right", wrong: "mistaken" };
const HEADS = { dataset: "data set", model: "model", players: "players", masking: "masking", curve_masking: "judged under", judge: "judge", order_model: "order of" };
const DONE = { insertion: "inserted", deletion: "deleted" };
const READ = [0, 0.1, 0.25, 0.5, 0.75, 1];

export const axes = (quantity) => (quantity === "log_odds" ? (_, low, high) => [low - 0.05 * (high - low), high + 0.05 * (high - low)] : [-0.02, 1.02]);

export function curves(host) {
  if (!page.curves.length) {
    host.replaceChildren(element("p", {}, "No row has a curve."));
    return;
  }
  const state = { objective: page.curves[0].objective, quantity: "probability", subset: page.curves[0].subset, few: {} };
  const controls = element("form", { class: "controls", "aria-label": "what the curves show" });
  const drawn = element("div", {});
  const numbers = element("details", {}, element("summary", {}, "The same as numbers"));
  host.replaceChildren(controls, drawn, numbers);
  const fits = (curve, but = "") => ["objective", "quantity", "subset"].every((name) => name === but || curve[name] === state[name])
    && Object.entries(state.few).every(([name, value]) => name === but || value === "" || curve.labels[name] === value);
  const options = (name, said) => distinct(page.curves.map((curve) => curve[name])).map((value) => [value, said[value] ?? value]);
  const facets = Object.keys(HEADS).filter((name) => distinct(page.curves.map((curve) => curve.labels[name])).length > 1);
  const set = (change) => {
    change();
    if (!page.curves.some((curve) => fits(curve))) {
      const other = page.curves.find((curve) => fits(curve, "subset")) ?? page.curves.find((curve) => fits(curve, "quantity"));
      if (other) Object.assign(state, { subset: other.subset, quantity: other.quantity });
    }
    show();
  };
  function show() {
    const held = document.activeElement?.closest("label")?.firstChild?.textContent;
    controls.replaceChildren(
      choice("objective", options("objective", {}), state.objective, (value) => set(() => (state.objective = value))),
      choice("quantity", options("quantity", QUANTITIES), state.quantity, (value) => set(() => (state.quantity = value))),
      ...(options("subset", SUBSETS).length > 1 ? [choice("images", options("subset", SUBSETS), state.subset, (value) => set(() => (state.subset = value)))] : []),
      ...facets.map((name) => {
        const values = distinct(page.curves.map((curve) => curve.labels[name])).filter((value) => value !== undefined);
        return choice(HEADS[name], [["", "all"], ...values.map((value) => [value, value])], state.few[name] ?? "", (value) => set(() => (state.few[name] = value)));
      }),
    );
    if (held) [...controls.querySelectorAll("label")].find((label) => label.firstChild.textContent === held)?.querySelector("select").focus();
    const mine = page.curves.filter((curve) => fits(curve));
    const said = `${QUANTITIES[state.quantity]} along ${state.objective}, ${SUBSETS[state.subset]}: ${mine.map((c) => `${c.title} ${number(middle(c))} on average`).join("; ")}`;
    chart(drawn, {
      lines: mine.map((curve) => ({ ...curve, title: `${curve.title}`, look: look(curve) })),
      x: `fraction of pixels ${DONE[state.objective] ?? ""}`, y: QUANTITIES[state.quantity], range: axes(state.quantity), said,
    });
    numbers.replaceChildren(numbers.firstChild, table(mine));
  }
  document.addEventListener("theme", show);
  show();
}

const middle = (curve) => curve.mean.reduce((sum, value) => sum + value, 0) / curve.mean.length;

function table(mine) {
  const heads = ["method", ...READ.map((x) => `at ${100 * x} %`), "images"];
  const row = (curve) => [curve.title, ...READ.map((x) => {
    const at = Math.round(x * (curve.x.length - 1));
    return `${number(curve.mean[at])} [${number(curve.low[at])}, ${number(curve.high[at])}]`;
  }), String(curve.n)];
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "mean curves as numbers" },
    element("table", {},
      element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", {}, head)))),
      element("tbody", {}, ...mine.map((curve) => element("tr", {}, ...row(curve).map((cell) => element("td", {}, cell)))))));
}
