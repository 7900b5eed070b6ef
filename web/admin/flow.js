// The saga flow: every order as a point that moves from step to step as its events arrive.
//
// One canvas and one animation frame for all of them; the numbers are text, twice a second.

import { h, still, text } from "./dom.js";
import { rate, title } from "./format.js";
import { STEPS } from "./parts.js";

/** The most points that move at a time; orders beyond that are counted and not drawn. */
const POINTS_MAX = 1400;
const SIDES = ["cancelled", "declined", "unknown", "stuck"];
/** Below which step each side lies. */
const BELOW = { cancelled: 1, declined: 2, unknown: 3, stuck: 5 };
const COLORS = { cancelled: "faint", declined: "rose", unknown: "amber", stuck: "red" };
/** What an event moves an order to. */
const MOVES = {
  placed: [0],
  reserved: [1],
  payment_requested: [1, 2],
  payment_retried: [1],
  payment_pending: ["unknown"],
  payment_unknown: ["unknown"],
  payment_authorized: [3],
  payment_declined: ["declined"],
  confirmed: [4],
  captured: [5],
  cancelled: ["cancelled"],
  stuck: ["stuck"],
  alert_raised: ["stuck"],
};
const COUNTED = { ...STEPS };
/** The height of what lies beside the way, in pixels. */
const TRAY = 34;
const HOP = 420;
const SIDE_HOP = 650;
const FADE = 500;
const WINDOW = 10;

/** The picture: `take(changes)` moves orders, `close()` ends it. */
export function flow() {
  const canvas = h("canvas", { class: "flow-canvas", role: "img", "aria-label": "Orders as points that move from step to step; the numbers above and below say how many a second" });
  const numbers = new Map();
  const cell = (name, note) => {
    const value = h("b", { class: "num", text: "–" });
    numbers.set(name, value);
    return h("div", { class: `flow-step ${name}` }, h("span", { text: title(name) }),
      h("span", { class: "flow-rate" }, value, h("small", { text: note })));
  };
  const stage = h("div", { class: "flow-stage" },
    h("div", { class: "flow-steps" }, STEPS.map((step) => cell(step, "/s"))),
    canvas,
    h("div", { class: "flow-sides" }, SIDES.map((side) => cell(side, "/s"))));

  const tally = new Tally();
  let told = false;
  const points = new Map();
  let colors = null;
  let size = { width: 0, height: 0 };
  let running = false;

  const frame = (now) => {
    if (!canvas.isConnected) {
      running = false;
      return;
    }
    paint(now);
    if (points.size > 0) requestAnimationFrame(frame);
    else running = false;
  };
  const run = () => {
    if (running || still.matches) return;
    running = true;
    requestAnimationFrame(frame);
  };

  function paint(now) {
    const { width, height } = size;
    if (!width) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    colors ??= palette(canvas);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const place = places(width, height);
    rails(context, place, colors, width);
    for (const [order, point] of points) {
      if (!step(point, now)) points.delete(order);
      else dot(context, point, place, colors, now);
    }
  }

  const watch = new ResizeObserver(([entry]) => {
    size = { width: entry.contentRect.width, height: entry.contentRect.height };
    requestAnimationFrame(paint);
  });
  watch.observe(canvas);
  const recolor = () => {
    colors = null;
    requestAnimationFrame(paint);
  };
  addEventListener("theme", recolor);
  const timer = setInterval(() => {
    if (told) for (const [name, element] of numbers) text(element, rate(tally.rate(name)));
  }, 500);

  return {
    stage,
    /** Orders are told from now on: without one, rates are 0. */
    begin: () => (told = true),
    take(changes) {
      const now = performance.now();
      const hidden = document.visibilityState !== "visible";
      for (const change of changes) {
        const path = (change.events ?? []).flatMap((event) => MOVES[event.kind] ?? []);
        for (const move of path) tally.add(COUNTED[move] ?? move);
        if (!hidden && path.length && !still.matches) send(points, change.order, path, now);
      }
      run();
    },
    close() {
      clearInterval(timer);
      watch.disconnect();
      removeEventListener("theme", recolor);
      points.clear();
    },
  };
}

/** Counts of the last seconds. */
class Tally {
  #seconds = new Map();
  #since = Date.now();

  add(name) {
    const second = Math.floor(Date.now() / 1000);
    const ring = this.#seconds.get(name) ?? new Map();
    ring.set(second, (ring.get(second) ?? 0) + 1);
    this.#seconds.set(name, ring);
  }

  /** A second, over the last ten. */
  rate(name) {
    const ring = this.#seconds.get(name);
    if (!ring) return 0;
    const now = Math.floor(Date.now() / 1000);
    let sum = 0;
    for (const [second, amount] of ring) {
      if (second < now - WINDOW) ring.delete(second);
      else if (second < now) sum += amount;
    }
    return sum / Math.max(1, Math.min(WINDOW, (Date.now() - this.#since) / 1000));
  }
}

function send(points, order, path, now) {
  let point = points.get(order);
  if (!point) {
    if (points.size >= POINTS_MAX) return;
    const first = typeof path[0] === "number" ? Math.max(0, path[0] - 1) : 2;
    const lane = hash(order);
    // A message carries a tenth of a second of orders: they set off spread over that time.
    point = { from: first, to: first, start: now + Math.random() * 140, took: 1, lane, queue: [] };
    points.set(order, point);
  }
  point.queue.push(...path.filter((move) => move !== point.to || point.queue.length));
  point.end = 0;
}

/** Moves a point on; false once it is through. */
function step(point, now) {
  if (now < point.start + point.took) return true;
  if (point.queue.length) {
    point.from = point.to;
    point.to = point.queue.shift();
    const hop = typeof point.to === "number" ? HOP : SIDE_HOP;
    point.took = (hop / (1 + point.queue.length * 0.12)) * (0.85 + point.lane * 0.3);
    point.start = Math.max(point.start, now - 32);
    if (now - point.start > 200) point.start = now;
    return true;
  }
  const stays = { unknown: 6000, stuck: 12_000, declined: 1200 }[point.to] ?? (point.to === 5 ? 0 : 2500);
  point.end ||= now + stays;
  return now < point.end + FADE;
}

function places(width, height) {
  const column = width / STEPS.length;
  const band = height * 0.52;
  return {
    column,
    x: (at) => (typeof at === "number" ? at + 0.5 : BELOW[at] + 0.5) * column,
    y: (at, lane) =>
      typeof at === "number" ? 12 + lane * (band - 24) : height - TRAY / 2 - (lane - 0.5) * (TRAY - 14),
    band,
    height,
  };
}

function rails(context, { column, x, band, height }, colors, width) {
  context.fillStyle = colors.rail;
  context.beginPath();
  context.roundRect(0, 2, width, band - 4, 8);
  context.fill();
  context.strokeStyle = colors.hair;
  context.lineWidth = 1;
  STEPS.forEach((_, at) => {
    if (at === 0) return;
    const across = Math.round(at * column) + 0.5;
    context.beginPath();
    context.moveTo(across, 8);
    context.lineTo(across, band - 8);
    context.stroke();
  });
  const tray = column * 0.72;
  for (const side of SIDES) {
    const across = x(side);
    context.fillStyle = colors.rail;
    context.beginPath();
    context.roundRect(across - tray / 2, height - TRAY, tray, TRAY, 6);
    context.fill();
    context.beginPath();
    context.moveTo(Math.round(across) + 0.5, band + 4);
    context.lineTo(Math.round(across) + 0.5, height - TRAY - 5);
    context.stroke();
    context.beginPath();
    context.moveTo(across - 3.5, height - TRAY - 9);
    context.lineTo(across + 0.5, height - TRAY - 4);
    context.lineTo(across + 4.5, height - TRAY - 9);
    context.stroke();
  }
}

function dot(context, point, place, colors, now) {
  const part = Math.max(0, Math.min(1, (now - point.start) / point.took));
  const [fx, fy] = [place.x(point.from), place.y(point.from, point.lane)];
  const [tx, ty] = [place.x(point.to), place.y(point.to, point.lane)];
  const side = typeof point.to !== "number";
  const aside = (((point.lane * 7919) % 1) - 0.5) * place.column * 0.5;
  const at = (part) => {
    const eased = part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
    return [fx + (tx - fx) * eased + aside, fy + (ty - fy) * (side ? part * part : eased)];
  };
  const [across, down] = at(part);
  const fade = point.end && now > point.end ? Math.max(0, 1 - (now - point.end) / FADE) : 1;
  const color = side ? colors[point.to] : point.to >= 4 ? colors.done : colors.moving;
  context.globalAlpha = fade * (side ? 0.95 : 0.85);
  context.fillStyle = color;
  if (part > 0 && part < 1) {
    const [tailX, tailY] = at(Math.max(0, part - 0.11));
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.globalAlpha = 0.3 * fade;
    context.beginPath();
    context.moveTo(tailX, tailY);
    context.lineTo(across, down);
    context.stroke();
    context.globalAlpha = fade * (side ? 0.95 : 0.85);
  }
  const drift = point.to === 5 && point.end ? (now - point.end + 1) * 0.05 : 0;
  context.beginPath();
  context.arc(across + drift, down, side ? 3.2 : 2.6, 0, 6.2832);
  context.fill();
  context.globalAlpha = 1;
}

function palette(element) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const sides = Object.fromEntries(SIDES.map((side) => [side, color(COLORS[side])]));
  return { ...sides, hair: color("hair"), rail: color("sunken"), done: color("green"), moving: color("blue") };
}

function hash(id) {
  let sum = 7;
  for (let at = id.length - 8; at < id.length; at += 1) sum = (sum * 31 + id.charCodeAt(at)) >>> 0;
  return (sum % 1009) / 1009;
}
