// The first page: how the shop is doing right now, as numbers, two charts and the saga flow.

import { ERASED } from "./address.js";
import { alarms } from "./alarms.js";
import { get, path } from "./api.js";
import { chart, SPAN } from "./chart.js";
import { atMost, attr, fill, h, text } from "./dom.js";
import { flow } from "./flow.js";
import { count, millis, money, orderName, rate, several } from "./format.js";
import { atHand, heldList, onceLeft } from "./held.js";
import { listKeys } from "./keys.js";
import { live } from "./live.js";
import { badge, empty, loading, panel, pips, setBadge, setPips, setWhen } from "./parts.js";
import { link } from "./router.js";
import { alertWords, stepWords } from "./story.js";

const LATEST = 10;
const MINUTE = 60_000;
/** The most pages of orders that are read for the minute before the page was opened. */
const PAGES_MAX = 10;
/** A payment that has been unknown for so long, in milliseconds, is shown. */
const WAITS = 5000;

/** Shows the page. */
export function overview(root) {
  const samples = [];
  const through = chart({
    heading: "Throughput", unit: "orders/s", read: (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1)), floor: 4,
    series: [
      { label: "placed", color: "blue", of: (one) => one.orders_placed, area: true },
      { label: "confirmed", color: "green", of: (one) => one.orders_confirmed },
      { label: "declined", color: "rose", of: (one) => one.payments_declined },
    ],
  });
  const latency = chart({
    heading: "Checkout latency", unit: "ms", read: millis, floor: 10,
    series: [
      { label: "p99", color: "amber", of: (one) => (one.checkout_ms?.count ? one.checkout_ms.p99 : NaN) },
      { label: "p50", color: "green", of: (one) => (one.checkout_ms?.count ? one.checkout_ms.p50 : NaN), area: true },
    ],
  });
  const revenue = takings();
  const figures = headline(revenue);
  const picture = flow();
  const latest = latestOrders();
  const needs = needed();
  fill(root,
    figures.element,
    h("section", { class: "panel flow", "aria-label": "Orders on their way" },
      h("div", { class: "panel-head" }, h("h2", { text: "Orders on their way" }),
        h("span", { class: "faint wide-only", text: "each point is an order, which moves with its events · rates over 10 s" })),
      picture.stage),
    h("div", { class: "two" }, through.figure, latency.figure),
    h("div", { class: "two lean" },
      panel("Latest orders", [latest.pill, h("a", { class: "quiet", href: "#/orders", text: "All orders" })], latest.element),
      panel("Needs attention", [needs.pill, h("a", { class: "quiet", href: "#/attention", text: "Attention" })], needs.element)));

  const show = atMost(200, () => {
    through.show(samples);
    latency.show(samples);
    figures.show(samples);
  });
  const subscriptions = [
    live.subscribe("stats", {}, {
      stats: (list) => {
        if (list.length > 1) samples.length = 0;
        samples.push(...list);
        samples.splice(0, Math.max(0, samples.length - SPAN));
        show();
      },
    }),
    live.subscribe("orders", { limit: LATEST }, {
      snapshot(rows) {
        picture.begin();
        latest.all(rows);
      },
      changes: (list) => {
        picture.take(list);
        revenue.take(list);
        latest.take(list);
      },
    }),
  ];
  const warn = () => {
    figures.alarms();
    needs.ask();
  };
  alarms.addEventListener("change", warn);
  warn();
  return {
    heading: "Overview",
    keys: listKeys(() => [...root.querySelectorAll(".latest:not([hidden]) a, .needs a")]),
    close() {
      for (const one of subscriptions) one.close();
      alarms.removeEventListener("change", warn);
      for (const one of [through, latency, picture, latest]) one.close();
      show.cancel();
    },
  };
}

/** What orders that were confirmed within a minute come to. */
function takings() {
  const sold = new Map();
  let since = Infinity;
  const put = (row, at) => sold.set(row.id, { at, amount: row.total.amount, currency: row.currency });
  const opened = Date.now();
  const read = async () => {
    let after = null;
    for (let pages = 0; pages < PAGES_MAX; pages += 1) {
      const page = await get(path("/v1/admin/orders", { placed_from: new Date(opened - MINUTE).toISOString(), limit: 200, after }));
      for (const row of page.data) if (row.number && !sold.has(row.id)) put(row, Date.parse(row.placed_at));
      after = page.next_cursor;
      if (!after) return opened - MINUTE;
    }
    return opened;
  };
  // Where it cannot be read, it is complete once a minute has passed.
  read().catch(() => opened).then((from) => (since = from));
  return {
    take(changes) {
      for (const { events, row } of changes) {
        const event = events?.find((one) => one.kind === "confirmed");
        if (event) put(row, Date.parse(event.at));
      }
    },
    last(now) {
      const sums = new Map();
      for (const [id, { at, amount, currency }] of sold) {
        if (at < now - MINUTE) sold.delete(id);
        else sums.set(currency, (sums.get(currency) ?? 0) + amount);
      }
      const words = [...sums].sort((one, other) => other[1] - one[1]).map(([currency, amount]) => money({ amount, currency }));
      return { complete: Date.now() - since >= MINUTE, orders: sold.size, first: words[0] ?? "0", others: words.slice(1) };
    },
  };
}

function headline(revenue) {
  const made = {};
  const one = (name, label, note, href) => {
    const value = h("b", { class: "num", text: "–" });
    const small = h("small", { text: note });
    made[name] = { value, small, box: h(href ? "a" : "div", { class: `figure ${name}`, href }, h("span", { text: label }), value, small) };
    return made[name].box;
  };
  const element = h("section", { class: "figures", "aria-label": "Now" },
    one("minute", "Orders a minute", "placed, last 60 s"),
    one("revenue", "Revenue a minute", "confirmed, last 60 s"),
    one("declined", "Declined", "payments, last 60 s"),
    one("p50", "Checkout p50", "last 10 s"),
    one("p99", "Checkout p99", "last 10 s"),
    one("needs", "Needs attention", "being read", "#/attention"));
  return {
    element,
    show(samples) {
      const minute = samples.slice(-60);
      const sum = (of) => minute.reduce((all, sample) => all + of(sample), 0);
      const placed = sum((sample) => sample.orders_placed);
      const scale = minute.length ? 60 / minute.length : 0;
      text(made.minute.value, count(Math.round(placed * scale)));
      text(made.minute.small, `${rate(placed / Math.max(1, minute.length))} a second`);
      const { complete, orders, first, others } = revenue.last(samples.at(-1) ? Date.parse(samples.at(-1).at) : Date.now());
      text(made.revenue.value, complete ? first : "–");
      text(made.revenue.small, complete ? [`${several(orders, "order")} confirmed`, ...others].join(", ") : "counting for a minute");
      text(made.declined.value, count(sum((sample) => sample.payments_declined)));
      const recent = samples.slice(-10).map((sample) => sample.checkout_ms).filter((one) => one?.count);
      const weight = recent.reduce((all, one) => all + one.count, 0);
      const p50 = recent.reduce((all, one) => all + one.p50 * one.count, 0) / weight;
      text(made.p50.value, weight ? millis(Math.round(p50 * 10) / 10) : "–");
      text(made.p99.value, weight ? millis(Math.max(...recent.map((one) => one.p99))) : "–");
    },
    alarms() {
      if (!alarms.read) return;
      const waits = alarms.count;
      const hidden = alarms.unseen.length > 0;
      text(made.needs.value, hidden && waits === 0 ? "–" : count(waits));
      text(made.needs.small, hidden ? "not all can be seen" : waits ? "open Attention" : `nothing; ${count(alarms.underWay.size)} in progress`);
      made.needs.box.classList.toggle("bad", waits > 0);
    },
  };
}

/** A handful of rows that are written over, never made anew. */
function latestOrders() {
  const rows = Array.from({ length: LATEST }, () => {
    const parts = { link: h("a", {}), who: h("span", { class: "clip" }), pips: pips({ payment_status: "none" }), badge: badge("pending"), total: h("span", { class: "num end" }), time: h("time", { class: "faint end" }) };
    parts.element = h("li", { class: "latest", hidden: true, data: { row: "" } }, parts.link, parts.who, parts.pips, parts.badge, parts.total, parts.time);
    return parts;
  });
  const nothing = empty("No orders yet", "New orders appear here automatically.");
  const waiting = loading(6);
  nothing.hidden = true;
  const list = h("ol", { class: "latest-list", hidden: true }, rows.map((row) => row.element));
  const element = h("div", {}, list, waiting, nothing);
  let known = new Map();
  // While somebody is at them, rows keep their orders and only change in place.
  const draw = (now) => {
    const newest = [...known.values()].sort((one, other) => (one.placed_at < other.placed_at ? 1 : -1)).slice(0, LATEST);
    const held = !now && atHand(list);
    const shown = held ? rows.map((parts) => known.get(parts.id)).filter(Boolean) : newest;
    shown.forEach((order, at) => put(rows[at], order));
    known = new Map([...newest, ...shown].map((row) => [row.id, row]));
    [nothing.hidden, waiting.hidden, list.hidden] = [newest.length > 0, true, newest.length === 0];
    const waits = newest.filter((order) => !shown.includes(order)).length;
    pill.hidden = waits === 0;
    text(pill, `${several(waits, "new order")}`);
  };
  const show = atMost(400, draw);
  const pill = h("button", { class: "pill small", type: "button", hidden: true, onclick: () => draw(true) });
  onceLeft(list, show);
  return {
    element, pill,
    all(list) {
      for (const row of list) known.set(row.id, row);
      show();
    },
    take(list) {
      for (const change of list) {
        if ((known.get(change.order)?.version ?? 0) < change.version) known.set(change.order, change.row);
      }
      show();
    },
    close: () => show.cancel(),
  };
}

function put(parts, order) {
  parts.id = order.id;
  parts.element.hidden = false;
  attr(parts.link, "href", link(["orders", order.id]));
  text(parts.link, orderName(order));
  text(parts.who, order.buyer_name || order.email || ERASED);
  attr(parts.who, "title", order.email ?? ERASED);
  setPips(parts.pips, order);
  setBadge(parts.badge, order.status);
  text(parts.total, money(order.total));
  setWhen(parts.time, order.placed_at);
}

/** What waits for somebody, and a pill for when it has changed under somebody's hand. */
function needed() {
  const element = h("div", { class: "needs" });
  const list = heldList(element, { key: () => `${alarms.read} ${JSON.stringify(needsOf())}`, draw: () => showNeeds(element, needsOf()) });
  return { element, ...list };
}

/** The rows of what waits: `{href, name, status, why}`. */
function needsOf() {
  const stuck = [...alarms.stuck.values()].map((order) => ({
    href: link(["orders", order.id]), name: orderName(order), status: "stuck",
    why: order.alert ? alertWords(order.alert) : [order.saga_step ? stepWords(order.saga_step) : null, order.stuck_reason].filter(Boolean).join(": "),
  }));
  const long = (order) => Date.now() - Date.parse(order.updated_at) > WAITS;
  const unknown = alarms.unknown.filter(long).map((order) => ({
    href: link(["orders", order.id]), name: orderName(order), status: "unknown", why: "no answer from the provider; kontor retries",
  }));
  const others = [[alarms.webhooks, "parked webhook"], [alarms.letters, "dead letter"], [alarms.quarantine, "entity", "entities"]]
    .filter(([list]) => list.length)
    .map(([list, one, many]) => ({ href: "#/attention", name: `${several(list.length, one, many)}${many ? " in quarantine" : ""}`, status: null, why: "" }));
  return [...stuck, ...others, ...unknown].slice(0, LATEST);
}

function showNeeds(element, needs) {
  const rows = needs.map(({ href, name, status, why }) =>
    h("li", { data: { row: "" } }, h("a", { href, text: name }), h("span", { class: "clip faint", title: why, text: why }), status ? badge(status) : null));
  if (rows.length) fill(element, h("ul", { class: "needs-list" }, rows));
  else if (alarms.unseen.length) fill(element, empty("Not everything can be seen", ...alarms.unseen));
  else fill(element, alarms.read ? empty("Nothing needs attention", "Stuck sagas, unknown payments, parked webhooks and quarantined entities appear here.") : loading(3));
}
