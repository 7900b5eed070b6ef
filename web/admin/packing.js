// Packing lists, a sheet for each order: what goes into the parcel and where it goes, for printing.

import { addressLines } from "./address.js";
import { get, path } from "./api.js";
import { fill, h } from "./dom.js";
import { day, orderName, several } from "./format.js";
import { readNames, whereOf } from "./location-names.js";
import { empty, failed, loading } from "./parts.js";
import { MANY_MAX } from "./orders-desk.js";
import { addressOf, go } from "./router.js";

/** How many orders are read at a time. */
const AT_ONCE = 6;

/** Shows the page. */
export function packing(root, { parts }) {
  const ids = [...new Set((parts[1] ?? "").split(",").filter(Boolean))].slice(0, MANY_MAX);
  let closed = false;
  const sheets = h("div", { class: "sheets" });
  const print = h("button", { class: "button primary", type: "button", text: "Print", onclick: () => window.print() });
  const leave = () => (history.length > 1 ? history.back() : go(addressOf("orders")));
  const read = async () => {
    fill(sheets, loading(8));
    try {
      await readNames();
      const orders = [];
      for (let at = 0; at < ids.length && !closed; at += AT_ONCE) {
        orders.push(...await Promise.all(ids.slice(at, at + AT_ONCE).map((id) => get(path(`/v1/admin/orders/${encodeURIComponent(id)}`, { expand: "allocations" })))));
      }
      if (!closed) fill(sheets, orders.map(sheet));
    } catch (problem) {
      if (!closed) fill(sheets, failed(problem, read));
    }
  };
  fill(root, h("div", { class: "toolbar" },
    h("button", { class: "button", type: "button", text: "Back", onclick: leave }),
    h("h2", { class: "grow", text: several(ids.length, "packing list") }), print), sheets);
  if (ids.length) read();
  else fill(sheets, empty("No orders were chosen"));
  return { heading: "Packing lists", keys: { Escape: leave, p: () => window.print() }, help: [["p", "Print"]], close: () => (closed = true) };
}

function sheet(order) {
  const to = order.shipping_address;
  const address = [...addressLines(to), to?.phone].filter(Boolean);
  const lines = order.lines.filter((line) => line.open > 0);
  const column = (name, kind = "") => h("th", { scope: "col", class: kind, text: name });
  return h("article", { class: "panel sheet" },
    h("header", {}, h("h3", { text: `Order ${orderName(order)}` }), h("span", { class: "mono faint", text: order.id })),
    h("div", { class: "sheet-head" },
      h("address", {}, address.map((one) => h("span", { class: "block", text: one }))),
      h("dl", {}, [["Placed", day(order.placed_at)], ["Delivery", order.delivery.name], ["Reference", order.reference]].filter(([, value]) => value)
        .map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value }))))),
    lines.length ? h("table", { class: "list" },
      h("thead", {}, h("tr", {}, column("Packed", "c-tick"), column("Units", "end c-units"), column("SKU"), column("Name"))),
      h("tbody", {}, lines.map((line) => h("tr", {}, h("td", { class: "c-tick" }, h("i", { class: "square" })), h("td", { class: "end num" }, h("b", { text: line.open }), line.open < line.quantity ? h("span", { class: "faint", text: ` of ${line.quantity}` }) : null),
        h("td", { class: "mono", text: line.sku }), h("td", { class: "c-name" }, line.name, whereOf(order, line.sku) ? h("span", { class: "faint block", text: whereOf(order, line.sku) }) : null)))))
      : h("p", { class: "hint", text: "Nothing is left to ship." }),
    lines.length === 0 ? null : h("p", { class: "faint num", text: several(lines.reduce((sum, line) => sum + line.open, 0), "unit") }));
}
