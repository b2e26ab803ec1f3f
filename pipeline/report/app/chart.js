// Lines with bands over fractions of the pixels, by uPlot; the legend below switches lines.
import { element, number } from "./dom.js";
import { shade } from "./looks.js";
import { colour } from "./theme.js";

const HEIGHT = 340;

// `lines`: {title, look, x, mean, low, high, dot}; low, high and dot (an index) may be missing.
// Returns {move(indices)}, which moves the lines' dots.
export function chart(host, { lines, x, y, range, said, height = HEIGHT }) {
  host.plot?.destroy();
  const wide = lines.map((line) => [line.x, line.mean, ...(line.low ? [line.high, line.low] : [])]);
  const data = uPlot.join(wide);
  const series = [{}];
  const bands = [];
  const places = [];
  for (const line of lines) {
    const stroke = shade(line.look.colour);
    places.push(series.length);
    series.push({ label: line.title, stroke, width: 2, dash: line.look.dash, spanGaps: true, points: { show: false } });
    if (line.low) {
      const edge = { width: 0, spanGaps: true, points: { show: false } };
      bands.push({ series: [series.length, series.length + 1], fill: shade(line.look.colour, 0.16) });
      series.push({ ...edge }, { ...edge });
    }
  }
  const dots = lines.map((line) => line.dot ?? null);
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1 }, font: "12px system-ui" };
  const drawDots = (plot) => {
    const { ctx } = plot;
    lines.forEach((line, i) => {
      if (dots[i] === null || !series[places[i]] || plot.series[places[i]].show === false) return;
      const at = Math.min(dots[i], line.x.length - 1);
      const [left, top] = [plot.valToPos(line.x[at], "x", true), plot.valToPos(line.mean[at], "y", true)];
      ctx.save();
      ctx.beginPath();
      ctx.setLineDash([]); // the line's own dashes are still set
      ctx.arc(left, top, 6 * devicePixelRatio, 0, 2 * Math.PI);
      ctx.fillStyle = shade(line.look.colour);
      ctx.strokeStyle = colour("ground");
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.fill();
      ctx.stroke();
      ctx.restore();
    });
  };
  const legend = element("ul", { class: "legend", "aria-label": "lines" });
  const values = [];
  const area = element("div", { class: "plot", role: "img", "aria-label": said });
  host.replaceChildren(area, legend);
  const plot = new uPlot({
    width: Math.max(260, host.clientWidth), height,
    scales: { x: { time: false, range: [0, 1] }, y: { range } },
    axes: [
      { ...axis, label: x, labelSize: 22, labelFont: "13px system-ui" },
      { ...axis, label: y, labelSize: 22, labelFont: "13px system-ui", size: 44 },
    ],
    series, bands,
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    hooks: {
      draw: [drawDots],
      setCursor: [({ cursor }) => {
        values.forEach((output, i) => {
          output.textContent = cursor.idx === null || cursor.idx === undefined ? "" : number(data[places[i]][cursor.idx]);
        });
      }],
    },
  }, data, area);
  host.plot = plot;
  lines.forEach((line, i) => {
    const output = element("output", {});
    values.push(output);
    const button = element("button", { type: "button", "aria-pressed": "true" }, sample(line.look), line.title, output);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      const own = line.low ? [0, 1, 2] : [0];
      for (const more of own) plot.setSeries(places[i] + more, { show: on });
    });
    legend.append(element("li", {}, button));
  });
  watch(host);
  return {
    move(indices) {
      indices.forEach((index, i) => (dots[i] = index));
      plot.redraw(false);
    },
  };
}

function sample({ colour: hex, dash }) {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const given = { x1: 0, x2: 26, y1: 5, y2: 5, stroke: shade(hex), "stroke-width": 3, "stroke-dasharray": dash.join(" ") };
  for (const [name, value] of Object.entries(given)) line.setAttribute(name, value);
  drawn.setAttribute("aria-hidden", "true");
  drawn.append(line);
  return drawn;
}

function watch(host) {
  if (host.watched) return;
  host.watched = new ResizeObserver(() => {
    const width = Math.max(260, host.clientWidth);
    if (host.plot && host.clientWidth && Math.abs(host.plot.width - width) > 1) host.plot.setSize({ width, height: host.plot.height });
  });
  host.watched.observe(host);
}
