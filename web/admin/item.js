// One SKU: its levels, who holds what and for how long, and putting a count right.

import { get, send } from "./api.js";
import { ask } from "./dialog.js";
import { atMost, fill, h, keepFocus } from "./dom.js";
import { count, several, tail } from "./format.js";
import { listKeys } from "./keys.js";
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
  fill(root, loading(6));

  const read = atMost(300, async () => {
    try {
      const next = await get(`/v1/admin/stock/${encodeURIComponent(sku)}`);
      if (known && next.version < known.version) return;
      known = next;
      if (!body.isConnected) fill(root, body);
      draw();
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
    keys: { ...listKeys(() => [...body.querySelectorAll("[data-row] a")]), Escape: () => go(addressOf("stock")) },
    reconnected: read,
    close() {
      subscription.close();
      clearInterval(timer);
      read.cancel();
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
      h("td", { class: "end actions" }, button("Receive", () => receive(item, level, read)), button("Adjust", () => adjust(item, level, read))));
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

const target = (item, level, what) => `/v1/admin/stock/${encodeURIComponent(item.sku)}/${encodeURIComponent(level.location)}/${what}`;

function receive(item, level, read) {
  ask({
    heading: `Receive ${item.sku} at ${level.location}`, verb: "Receive", done: "The units are in stock",
    intro: `${several(level.on_hand, "unit")} on hand now, ${count(level.incoming)} incoming.`,
    fields: [
      { name: "quantity", label: "Units", type: "number", inputmode: "numeric", required: true },
      ...(level.incoming > 0 ? [{ name: "from_incoming", label: "These units were announced as incoming", type: "checkbox", value: true }] : []),
    ],
    act: async ({ quantity, from_incoming = false }, key) => {
      await send("POST", target(item, level, "receipts"), { quantity: Number(quantity), from_incoming }, { key });
      read();
    },
  });
}

function adjust(item, level, read) {
  ask({
    heading: `Adjust ${item.sku} at ${level.location}`, verb: "Adjust", done: "The stock was adjusted",
    intro: `${several(level.on_hand, "unit")} on hand now. What is reserved or allocated (${count(level.reserved + level.allocated)}) cannot be taken away.`,
    fields: [
      { name: "quantity", label: "Units to add, or negative to remove", type: "number", required: true },
      { name: "reason", label: "Reason", type: "reason", required: true, why: "say why, in a few words", hint: "Kept in the stock's history with your name." },
    ],
    act: async ({ quantity, reason }, key) => {
      await send("POST", target(item, level, "adjustments"), { quantity: Number(quantity), reason }, { key });
      read();
    },
  });
}
