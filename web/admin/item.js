// One SKU: its levels, who holds what and for how long, and putting a count right.

import { get, send } from "./api.js";
import { ask, complaint } from "./dialog.js";
import { atMost, fill, h, keepFocus } from "./dom.js";
import { count, several, tail, words } from "./format.js";
import { listKeys } from "./keys.js";
import { itemHistory } from "./item-history.js";
import { follows, live } from "./live.js";
import { failed, icon, loading, panel, until } from "./parts.js";
import { addressOf, go, link } from "./router.js";
import { bar, setBar } from "./stock.js";

const ROWS_MAX = 200;

/** Shows the page. */
export function item(root, { parts }) {
  const sku = parts[1];
  let known = null;
  let name = "";
  const body = h("div");
  const history = itemHistory(sku);
  fill(root, loading(6));

  const read = atMost(300, async () => {
    try {
      const next = await get(`/v1/admin/stock/${encodeURIComponent(sku)}`);
      if (known && next.version < known.version) return;
      known = next;
      if (!body.isConnected) fill(root, body, history.element);
      draw();
      history.refresh();
    } catch (problem) {
      if (!known) fill(root, failed(problem, read), h("p", { class: "centered" }, h("a", { href: addressOf("stock"), text: "All stock" })));
    }
  });
  const draw = () => {
    const giveBack = keepFocus(body);
    fill(body, head(known, name), levels(known, read), h("div", { class: "two loose" }, holds(known), allocations(known)));
    giveBack();
  };
  const subscription = live.subscribe("stock", { filter: { sku }, limit: 1 }, {
    changes: (list) => {
      if (list.some((change) => follows(known?.version ?? 0, change) !== "stale")) read();
    },
    snapshot: ([row]) => row && known && row.version > known.version && read(),
  });
  // A hold past its time is no longer listed, and no event says so at that moment.
  const timer = setInterval(() => known?.holds?.some((one) => Date.parse(one.hold_until) < Date.now()) && read(), 2000);
  read();
  get(`/v1/admin/products/${encodeURIComponent(sku)}`).then((product) => {
    name = product.name;
    if (known) draw();
  }, () => {});
  return {
    heading: sku,
    keys: { ...listKeys(() => [...root.querySelectorAll("[data-row] a")]), Escape: () => go(addressOf("stock")) },
    reconnected: read,
    close() {
      subscription.close();
      clearInterval(timer);
      read.cancel();
      history.close();
    },
  };
}

function head(item, name) {
  const figure = (label, value, kind = "") => h("div", { class: `figure ${kind}` }, h("span", { text: label }), h("b", { class: "num", text: count(value) }));
  return h("header", { class: "item-head" },
    h("div", { class: "order-title" }, h("a", { class: "back", href: addressOf("stock") }, icon("left"), "Stock"),
      h("h2", { text: name || item.sku }), h("span", { class: "mono faint", text: item.sku })),
    h("div", { class: "figures six" }, figure("Sellable", item.sellable, item.sellable > 0 ? "" : "bad"), figure("Reserved", item.reserved), figure("Allocated", item.allocated), figure("On hand", item.on_hand), figure("Incoming", item.incoming), figure("Sold", item.sold)));
}

function levels(item, read) {
  const rows = item.levels.map((level) => {
    const line = bar();
    setBar(line, level);
    const button = (label, run) => h("button", { class: "button small", type: "button", text: label, "aria-label": `${label} at ${level.location}`, onclick: run });
    return h("tr", {}, h("th", { scope: "row", text: level.location }), h("td", { class: "c-bar" }, line),
      ["sellable", "reserved", "allocated", "on_hand", "incoming", "sold"].map((name) => h("td", { class: `end num c-${name}`, text: count(level[name]) })),
      h("td", { class: "end actions" }, button("Receive", () => receive(item, level, read)), button("Count", () => recount(item, level, read)), button("Adjust", () => adjust(item, level, read)), button("Transfer", () => transfer(item, level, read))));
  });
  const column = (name, kind = "end") => h("th", { scope: "col", class: kind, text: name });
  return panel("Levels", h("span", { class: "faint num", text: `version ${item.version}` }), h("table", { class: "list levels" },
    h("thead", {}, h("tr", {}, column("Location", ""), column("On hand", "c-bar"), column("Sellable", "end c-sellable"), column("Reserved", "end c-reserved"), column("Allocated", "end c-allocated"), column("On hand", "end c-on_hand"), column("Incoming", "end c-incoming"), column("Sold", "end c-sold"), h("th", { scope: "col" }, h("span", { class: "unseen", text: "Changes" })))),
    h("tbody", {}, rows)));
}

function holds(item) {
  const list = item.holds ?? [];
  const rows = list.slice(0, ROWS_MAX).map((hold) => h("li", { data: { row: "" } },
    h("a", { class: "mono", href: link(["orders", hold.order]), title: hold.order, text: tail(hold.order) }),
    h("span", { class: "faint", text: hold.generation > 1 ? `try ${hold.generation}` : "" }),
    h("span", { class: "num", text: several(hold.quantity, "unit") }),
    h("span", { class: "clock num end" }, until(hold.hold_until))));
  return panel("Holds", h("span", { class: "faint", text: "with the time that is left to pay" }),
    rows.length ? h("ul", { class: "rows" }, rows) : h("p", { class: "hint pad", text: "No order has reserved units. A hold lasts 15 minutes, or until its order is paid." }));
}

function allocations(item) {
  const list = [...(item.allocations ?? [])].sort((one, other) => (one.order < other.order ? 1 : -1));
  const rows = list.slice(0, ROWS_MAX).map((one) => h("li", { data: { row: "" } },
    h("a", { class: "mono", href: link(["orders", one.order]), title: one.order, text: tail(one.order) }), h("span", { class: "num end", text: several(one.quantity, "unit") })));
  const more = list.length > ROWS_MAX ? `${ROWS_MAX} of ${count(list.length)}` : several(list.length, "order");
  return panel("Allocations", h("span", { class: "faint", text: more }),
    rows.length ? h("ul", { class: "rows tall", tabindex: "0", "aria-label": "Allocations" }, rows) : h("p", { class: "hint pad", text: "No order has allocated units." }));
}

const place = (item, ...more) => `/v1/admin/stock/${[item.sku, ...more].map(encodeURIComponent).join("/")}`;

/** The stock of a SKU as what a dialog is about: other changes of its levels are said in the dialog. */
const about = (item) => ({
  now: item,
  read: () => get(place(item)),
  changes(before, after) {
    const old = new Map(before.levels.map((level) => [level.location, level]));
    const list = after.levels.flatMap((level) => ["on_hand", "reserved", "allocated", "incoming"]
      .filter((name) => (old.get(level.location)?.[name] ?? 0) !== level[name])
      .map((name) => `${level.location}: ${words(name)} ${count(old.get(level.location)?.[name] ?? 0)} → ${count(level[name])}`));
    return list.length ? list : ["Its levels are as they were."];
  },
  follow(look) {
    const soon = atMost(300, look);
    const subscription = live.subscribe("stock", { filter: { sku: item.sku }, limit: 1 }, {
      snapshot: ([row]) => row?.version > item.version && soon(),
      changes: soon,
    });
    return {
      close() {
        subscription.close();
        soon.cancel();
      },
    };
  },
});

const levelOf = (item, location) => item.levels.find((level) => level.location === location) ?? { on_hand: 0, reserved: 0, allocated: 0, incoming: 0, sellable: 0 };
/** The most units that a location has of a SKU. */
const UNITS_MAX = 1_000_000_000;
const REASON = { name: "reason", label: "Reason", type: "reason", required: true, why: "say why, in a few words", hint: "Kept in the stock's history with your name." };

/** A field for a number of units, at least `least`; `most(item)` are the units that there are. */
const unitsField = (label, least, more = {}) => ({
  name: "quantity", label, inputmode: "numeric", required: true, ...more,
  check(typed, item) {
    const whole = /^\d+$/.test(typed) && Number(typed) >= least && Number(typed) <= UNITS_MAX;
    if (!whole) return `must be a whole number from ${count(least)} to ${count(UNITS_MAX)}`;
    return more.most && Number(typed) > more.most(item) ? `only ${several(more.most(item), "unit")} can be moved` : null;
  },
});

function receive(item, { location, on_hand, incoming }, read) {
  ask({
    heading: `Receive ${item.sku} at ${location}`, verb: "Receive", done: "The units are in stock", about: about(item),
    intro: `${several(on_hand, "unit")} on hand now, ${count(incoming)} incoming.`,
    fields: [
      unitsField("Units", 1),
      ...(incoming > 0 ? [{ name: "from_incoming", label: "These units were announced as incoming", type: "checkbox", value: true }] : []),
    ],
    sum: ({ quantity }, now) => (quantity ? [h("span", { text: "On hand after this" }), h("b", { class: "num", text: count(levelOf(now, location).on_hand + Number(quantity)) })] : []),
    act: async ({ quantity, from_incoming = false }, key) => {
      await send("POST", place(item, location, "receipts"), { quantity: Number(quantity), from_incoming }, { key });
      read();
    },
  });
}

/** Somebody has counted: the page works out the difference, and writes it as what it is. */
function recount(item, { location, on_hand }, read) {
  const difference = (typed, now) => Number(typed) - levelOf(now, location).on_hand;
  const signed = (value) => (value > 0 ? `+${count(value)}` : count(value).replace("-", "−"));
  let found = 0;
  ask({
    heading: `Count ${item.sku} at ${location}`, verb: "Save the count", about: about(item),
    done: () => (found ? `The stock was corrected by ${signed(found)}` : "The count agrees: nothing was changed"),
    intro: `${several(on_hand, "unit")} should be on hand, reserved and allocated ones included.`,
    fields: [unitsField("Counted units", 0, { also: ["on_hand"], codes: ["stock_committed", "stock_changed"] })],
    sum: ({ quantity }, now) => (quantity ? [h("span", { text: "Difference" }), h("b", { class: "num", text: signed(difference(quantity, now)) }),
      h("span", { class: "faint num", text: `${count(levelOf(now, location).on_hand)} should be on hand` })] : []),
    async act({ quantity }, key, now) {
      found = difference(quantity, now);
      if (found) await send("PUT", place(item, location), { on_hand: Number(quantity), change_from: levelOf(now, location).on_hand }, { key });
      read();
    },
  });
}

function adjust(item, { location, on_hand, reserved, allocated }, read) {
  ask({
    heading: `Adjust ${item.sku} at ${location}`, verb: "Adjust", done: "The stock was adjusted", about: about(item),
    intro: `${several(on_hand, "unit")} on hand now. What is reserved or allocated (${count(reserved + allocated)}) cannot be taken away.`,
    fields: [{
      name: "quantity", label: "Units to add, or negative to remove", required: true, codes: ["stock_committed"],
      check: (typed) => (/^[-+]?[1-9]\d*$/.test(typed) && Math.abs(Number(typed)) <= UNITS_MAX ? null : "must be a whole number of units, such as 5 or -2"),
    }, REASON],
    sum: ({ quantity }, now) => (quantity ? [h("span", { text: "On hand after this" }), h("b", { class: "num", text: count(levelOf(now, location).on_hand + Number(quantity)) })] : []),
    async act({ quantity, reason }, key) {
      await send("POST", place(item, location, "adjustments"), { quantity: Number(quantity), reason }, { key });
      read();
    },
  });
}

/** Moves units to another location of the shop. */
async function transfer(item, { location, sellable }, read) {
  const known = await get("/v1/admin/locations?limit=200").catch(() => ({ data: [], next_cursor: "" }));
  const ids = new Set([...item.levels.map((level) => level.location), ...known.data.map((one) => one.id)]);
  const others = [...ids].filter((other) => other !== location);
  ask({
    heading: `Transfer ${item.sku} from ${location}`, verb: "Transfer", done: "The units were transferred", about: about(item),
    intro: `${several(sellable, "unit")} can be moved: what is reserved or allocated stays.`,
    fields: [
      { name: "to", label: "To location", required: true, suggestions: others, value: others[0] ?? "" },
      unitsField("Units", 1, { most: (now) => levelOf(now, location).sellable, codes: ["stock_committed", "out_of_stock"] }),
    ],
    sum: ({ quantity, to }, now) => (quantity && to ? [h("span", { class: "num", text: `${location}: ${count(levelOf(now, location).on_hand - Number(quantity))}` }),
      h("span", { class: "num", text: `${to}: ${count(levelOf(now, to).on_hand + Number(quantity))} on hand after this` })] : []),
    async act({ to, quantity }, key) {
      if (to === location) throw complaint("to", "is where the units are");
      if (known.next_cursor === null && !others.includes(to)) throw complaint("to", `is no location of the shop: ${others.join(", ")}`);
      await send("POST", place(item, "transfers"), { from: location, to, quantity: Number(quantity) }, { key });
      read();
    },
  });
}
