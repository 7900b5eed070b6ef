// Small pieces that several pages show: badges, times, the steps of an order, empty states.

import { attr, fill, h, s, text } from "./dom.js";
import { ago, exact, left, onPaper, title, words } from "./format.js";

const PATHS = {
  overview: "M3 12h4l3 7 4-14 3 7h4",
  orders: "M6 3h12v18l-3-2-3 2-3-2-3 2zM9.5 8h5M9.5 12h5",
  stock: "M4 8l8-4 8 4v8l-8 4-8-4zM4 8l8 4 8-4M12 12v8",
  attention: "M12 4l9 16H3zM12 10v4M12 17v.2",
  cluster: "M12 3v5M12 8l-7 6M12 8l7 6M9 3h6M3 14h5v6H3zM16 14h5v6h-5z",
  system: "M4 5h16v6H4zM4 13h16v6H4zM7.5 8v.1M7.5 16v.1",
  settings: "M4 7h9M19 7h1M16 4v6M4 17h1M11 17h9M8 14v6",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  out: "M14 5H6v14h8M10 12h10M17 9l3 3-3 3",
  keys: "M3 7h18v10H3zM7 11v.1M11 11v.1M15 11v.1M8 14h8",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM20 20l-4.7-4.7",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7",
  print: "M7 8V4h10v4M7 17H4V9h16v8h-3M7 14h10v6H7z",
  up: "M7 14l5-5 5 5",
  down: "M7 10l5 5 5-5",
};

/** A line icon, hidden from screen readers: words stand beside it or in its button's label. */
export const icon = (name) =>
  s("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));

const TONES = {
  ok: ["for_sale", "confirmed", "completed", "fulfilled", "captured", "authorized", "done", "ok", "on", "live", "partially_fulfilled", "partially_captured"],
  busy: ["pending", "requested", "partial"],
  wait: ["awaiting_payment", "unknown", "degraded", "draining"],
  bad: ["stuck", "declined", "failed", "dead", "unowned"],
  mute: ["not_for_sale", "cancelled", "voided", "reversed", "none", "unfulfilled", "not_required", "refunded", "partially_refunded"],
};
const TONE = new Map(Object.entries(TONES).flatMap(([tone, names]) => names.map((name) => [name, tone])));

/** The tone of a status: `ok`, `busy`, `wait`, `bad` or `mute`. */
export const tone = (status) => TONE.get(status) ?? "mute";

/** A status as a badge; `setBadge` changes it in place. */
export function badge(status) {
  return setBadge(h("span"), status);
}

/** Shows another status in a badge. */
export function setBadge(element, status) {
  attr(element, "class", `badge ${tone(status)}`);
  text(element, words(status));
  return element;
}

/** How long ago something was, kept current, with the exact time as its title. */
export function when(time, long = false) {
  return setWhen(h("time", { data: long ? { long: "" } : {} }), time);
}

/** Shows another time. */
export function setWhen(element, time) {
  if (element.dataset.at === time) return element;
  element.dataset.at = time;
  element.dateTime = time;
  element.title = exact(time);
  element.dataset.paper = onPaper(time);
  text(element, ago(Date.parse(time), Date.now(), "long" in element.dataset));
  return element;
}

/** How long until then, counting down. */
export function until(time) {
  const element = h("time", { data: { until: time, paper: onPaper(time) }, datetime: time, title: exact(time) });
  text(element, left(Date.parse(time)));
  return element;
}

function tick() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-at]")) {
    text(element, ago(Date.parse(element.dataset.at), now, "long" in element.dataset));
  }
  for (const element of document.querySelectorAll("time[data-until]")) {
    const end = Date.parse(element.dataset.until);
    text(element, left(end, now));
    element.classList.toggle("soon", end - now < 60_000);
  }
}

/** Keeps all times on the page current. */
export const startClock = () => setInterval(tick, 1000);

/** The steps that an order goes through, in order. */
export const STEPS = ["placed", "reserved", "paying", "authorized", "confirmed", "captured"];

/** How many of its steps an order has behind it. */
export function reached(order) {
  const { payment_status: paid } = order;
  if (["captured", "partially_captured", "partially_refunded", "refunded"].includes(paid)) return 6;
  if (order.number) return 5;
  if (paid === "authorized") return 4;
  if (paid === "none") return 1;
  return 3;
}

function pipTone(order) {
  if (order.stuck_reason || order.alert || order.status === "stuck") return "bad";
  if (order.status === "cancelled") return "mute";
  if (order.payment_status === "declined") return "bad";
  if (order.payment_status === "unknown") return "wait";
  return order.number ? "ok" : "busy";
}

/** How far an order is, as six little bars. */
export function pips(order) {
  const element = h("span", { class: "pips" }, STEPS.map(() => h("i")));
  return setPips(element, order);
}

/** Shows how far another order is. */
export function setPips(element, order) {
  const done = reached(order);
  attr(element, "class", `pips ${pipTone(order)} at-${done}`);
  attr(element, "title", `${title(STEPS[done - 1])}: step ${done} of ${STEPS.length}`);
  return element;
}

/** Nothing to show, and why that is so. */
export function empty(heading, ...words) {
  return h("div", { class: "empty" },
    h("p", { class: "empty-title", text: heading }),
    words.map((part) => (typeof part === "string" ? h("p", { text: part }) : part)));
}

/** Lines where rows will be. */
export function loading(rows = 6) {
  const lines = Array.from({ length: rows }, () => h("div", { class: "bone" }));
  return h("div", { class: "bones", role: "status" }, h("span", { class: "unseen", text: "Loading" }), lines);
}

/** What went wrong, in the server's words, and a way to try again. */
export function failed(problem, again) {
  return h("div", { class: "empty bad", role: "alert" },
    h("p", { class: "empty-title", text: problem.title ?? "The request failed" }),
    h("p", { text: problem.message }),
    problem.status === 403
      ? h("p", { text: "Your session lacks the scope for this. Sign in with a key that has it." })
      : null,
    problem.request ? h("p", { class: "faint mono", text: problem.request }) : null,
    again ? h("button", { class: "button", type: "button", text: "Try again", onclick: again }) : null);
}

/** A panel with a heading, what stands beside it, and its content. */
export function panel(heading, aside, ...content) {
  return h("section", { class: "panel" },
    h("div", { class: "panel-head" }, h("h2", { text: heading }), aside),
    content);
}

/** The place of the pill of a list, in the line above it: it is kept free, so that nothing moves or is covered. */
export const pillPlace = (pill) => h("div", { class: "pill-place" }, pill);

let notes = 0;

/** The place for why a button cannot be pressed, near it; `allow` writes it. */
export const whyNot = () => h("p", { class: "why-not", id: `why-not-${++notes}`, hidden: true });

/**
 * Lets buttons of the same name be pressed; or not, if there is a `why`, which their note says, after the
 * name if there is one. Such a button can be reached by the keyboard, is described by the note, and does
 * nothing.
 */
export function allow(buttons, note, name, why) {
  for (const button of [buttons].flat()) {
    attr(button, "aria-disabled", why ? "true" : null);
    attr(button, "aria-describedby", why ? note.id : null);
  }
  fill(note, why ? [name ? h("b", { text: `${name}: ` }) : null, why] : []);
  note.hidden = !why;
}

addEventListener("click", (event) => {
  if (!event.target.closest?.('[aria-disabled="true"]')) return;
  event.preventDefault();
  event.stopImmediatePropagation();
}, { capture: true });

/** Names and values below one another. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) =>
    h("div", {}, h("dt", { text: name }), h("dd", {}, value))));
}

/** The most rows that flash at a time: more would only flicker, and cost every frame. */
const FLASHES_MAX = 10;

/** Lets the colors of rows fade for a moment: they have changed. */
export function flashAll(elements) {
  if (elements.length <= FLASHES_MAX) for (const one of elements) flash(one);
}

/** Lets the colors of something fade for a moment: it has changed. */
export function flash(element) {
  if (element.getAnimations().some((one) => one.animationName?.startsWith("flash"))) return;
  element.classList.remove("flash");
  requestAnimationFrame(() => element.classList.add("flash"));
}
