// A line chart over time on a canvas: crisp, with axes, a shared crosshair, and a table instead.

import { attr, fill, h, perFrame, text } from "./dom.js";
import { clock } from "./format.js";

/** How many seconds a chart shows. */
export const SPAN = 300;
/** How many seconds without a value a line bridges. */
const GAP = 10;
const LEFT = 44;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 20;
const charts = new Set();
/** Where the crosshair is, in seconds before now, on all charts at once; null without a pointer. */
let crosshair = null;

/** Round numbers from 0 to at least `most`. */
function ticks(most, about = 4) {
  const rough = Math.max(most, 1e-9) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((one) => one * power >= rough) * power;
  const list = [];
  for (let value = 0; value < most + step * 0.999; value += step) list.push(Number(value.toPrecision(12)));
  return list.length > 1 ? list : [0, step];
}

/**
 * `series`: `{label, color, of(sample), area?}` with the name of a color variable; `read` makes a
 * value readable; `floor` is the least upper end of the scale.
 */
export function chart({ heading, unit, series, read, floor = 1 }) {
  const canvas = h("canvas", { class: "chart-canvas", role: "img", "aria-label": heading });
  const moment = h("span", { class: "chart-moment" });
  const values = series.map(() => h("b", { class: "num" }));
  const legend = h("div", { class: "legend" }, series.map((one, at) =>
    h("span", { class: `key ${one.color}` }, h("i"), h("span", { text: one.label }), values[at])));
  const table = h("div", { class: "chart-table", hidden: true, tabindex: "0", role: "region", "aria-label": `${heading} as a table` });
  const button = h("button", { class: "quiet", type: "button", "aria-pressed": "false", text: "Table" });
  const figure = h("figure", { class: "panel chart", role: "group", "aria-label": heading },
    h("div", { class: "panel-head" }, h("h2", {}, heading, h("span", { class: "unit", text: unit })), moment, button),
    legend, canvas, table);

  const self = { samples: [], table: false };
  let colors = null;
  let size = { width: 0, height: 0 };
  const draw = perFrame(() => {
    if (!canvas.isConnected) return;
    if (self.table) writeTable();
    else paint();
    readout();
  });

  function paint() {
    const { width, height } = size;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    colors ??= palette(figure, series);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const points = series.map((one) => self.samples.map(one.of));
    const most = Math.max(floor, ...points.flat().filter(Number.isFinite));
    const scale = ticks(most * 1.05);
    const top = scale.at(-1);
    const x = (back) => LEFT + (width - LEFT - RIGHT) * (1 - back / SPAN);
    const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - value / top);
    grid(context, { scale, x, y, width, height, colors });
    const now = Date.parse(self.samples.at(-1)?.at ?? 0);
    const backs = self.samples.map((sample) => (now - Date.parse(sample.at)) / 1000);
    series.forEach((one, at) => line(context, { backs, values: points[at], x, y, color: colors.series[at], area: one.area }));
    mark(context, { backs, points, x, y, height });
  }

  function mark(context, { backs, points, x, y, height }) {
    const at = nearest(backs);
    if (at < 0) return;
    const across = Math.round(x(backs[at])) + 0.5;
    context.strokeStyle = colors.faint;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(across, TOP);
    context.lineTo(across, height - BOTTOM);
    context.stroke();
    points.forEach((values, one) => {
      if (!Number.isFinite(values[at])) return;
      context.fillStyle = colors.panel;
      context.strokeStyle = colors.series[one];
      context.lineWidth = 2;
      context.beginPath();
      context.arc(across, y(values[at]), 3.5, 0, 7);
      context.fill();
      context.stroke();
    });
  }

  function nearest(backs) {
    if (crosshair === null || backs.length === 0) return -1;
    let best = -1;
    backs.forEach((back, at) => {
      const better = best < 0 || Math.abs(back - crosshair) < Math.abs(backs[best] - crosshair);
      if (better) best = at;
    });
    return best;
  }

  function readout() {
    const now = Date.parse(self.samples.at(-1)?.at ?? 0);
    const at = nearest(self.samples.map((sample) => (now - Date.parse(sample.at)) / 1000));
    const sample = self.samples.at(at);
    series.forEach((one, index) => {
      const value = sample && one.of(sample);
      text(values[index], Number.isFinite(value) ? read(value) : "–");
    });
    const said = series.map((one, index) => `${one.label} ${values[index].textContent}`).join(", ");
    attr(canvas, "aria-label", `${heading} (${unit}) over the last ${SPAN / 60} minutes; latest: ${said}`);
    text(moment, at >= 0 && crosshair !== null ? clock(sample.at).slice(0, 8) : "");
  }

  function writeTable() {
    const rows = self.samples.slice(-60).reverse();
    fill(table, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col", text: "Time" }),
        series.map((one) => h("th", { scope: "col", class: "end", text: `${one.label} (${unit})` })))),
      h("tbody", {}, rows.map((sample) => h("tr", {}, h("th", { scope: "row", text: clock(sample.at).slice(0, 8) }),
        series.map((one) => {
          const value = one.of(sample);
          return h("td", { class: "end num", text: Number.isFinite(value) ? read(value) : "–" });
        }))))));
  }

  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    crosshair = part < -0.02 || part > 1.02 ? null : Math.max(0, Math.min(1, 1 - part)) * SPAN;
    for (const one of charts) one.draw();
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerleave", () => {
    crosshair = null;
    for (const one of charts) one.draw();
  });
  button.addEventListener("click", () => {
    self.table = !self.table;
    attr(button, "aria-pressed", String(self.table));
    canvas.hidden = self.table;
    table.hidden = !self.table;
    draw();
  });
  const watch = new ResizeObserver(([entry]) => {
    size = { width: entry.contentRect.width, height: entry.contentRect.height };
    draw();
  });
  watch.observe(canvas);
  const recolor = () => {
    colors = null;
    draw();
  };
  addEventListener("theme", recolor);
  const entry = { draw };
  charts.add(entry);
  return {
    figure,
    show(samples) {
      self.samples = samples;
      draw();
    },
    close() {
      watch.disconnect();
      draw.cancel();
      charts.delete(entry);
      removeEventListener("theme", recolor);
    },
  };
}

function palette(element, series) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    series: series.map((one) => color(one.color)),
    faint: color("faint"),
    hair: color("hair"),
    panel: color("panel"),
    font: `11px ${style.fontFamily}`,
  };
}

/** A value on the axis, whose unit stands in the heading. */
const short = (value) => (value >= 10_000 ? `${value / 1000} k` : String(value));

function grid(context, { scale, x, y, width, height, colors }) {
  context.font = colors.font;
  context.fillStyle = colors.faint;
  context.strokeStyle = colors.hair;
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const value of scale) {
    const at = Math.round(y(value)) + 0.5;
    context.beginPath();
    context.moveTo(LEFT, at);
    context.lineTo(width - RIGHT, at);
    context.stroke();
    context.fillText(short(value), LEFT - 8, at);
  }
  context.textBaseline = "alphabetic";
  // The first label begins at its place, the others have theirs in the middle.
  const room = 2.1 * context.measureText("−5 min").width;
  const step = 60 * Math.max(1, Math.ceil((room * SPAN) / 60 / (width - LEFT - RIGHT)));
  for (let back = 0; back <= SPAN; back += step) {
    context.textAlign = back === 0 ? "right" : back === SPAN ? "left" : "center";
    context.fillText(back ? `−${back / 60} min` : "now", x(back), height - 5);
  }
}

function line(context, { backs, values, x, y, color, area }) {
  const runs = [];
  let run = [];
  let last = Infinity;
  values.forEach((value, at) => {
    if (!Number.isFinite(value) || backs[at] > SPAN) return;
    if (last - backs[at] > GAP && run.length) {
      runs.push(run);
      run = [];
    }
    run.push([x(backs[at]), y(value)]);
    last = backs[at];
  });
  if (run.length) runs.push(run);
  context.strokeStyle = color;
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  for (const points of runs) {
    const path = new Path2D();
    points.forEach(([across, down], at) => (at ? path.lineTo(across, down) : path.moveTo(across, down)));
    if (points.length === 1) path.lineTo(points[0][0] + 1, points[0][1]);
    if (area) {
      const shape = new Path2D(path);
      shape.lineTo(points.at(-1)[0], y(0));
      shape.lineTo(points[0][0], y(0));
      shape.closePath();
      context.globalAlpha = 0.12;
      context.fillStyle = color;
      context.fill(shape);
      context.globalAlpha = 1;
    }
    context.stroke(path);
  }
}
