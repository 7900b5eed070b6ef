// What is done with many orders at once: their sums, shipping them, packing lists, and CSV files.

import { freshKey, get, send } from "./api.js";
import { ask, sentence } from "./dialog.js";
import { attr, fill, h, text } from "./dom.js";
import { count, money, orderName, several } from "./format.js";
import { exportAll, exportChosen } from "./orders-export.js";
import { allow, pillPlace, whyNot } from "./parts.js";
import { refused } from "./rights.js";
import { link } from "./router.js";

/** The most orders that are shipped or packed at once. */
export const MANY_MAX = 200;

/** The sums of orders by currency, in words: `£1,234.50, £20.00 refunded`. */
function sums(rows) {
  const all = new Map();
  for (const { total, captured, refunded, currency } of rows) {
    const one = all.get(currency) ?? { total: 0, captured: 0, refunded: 0 };
    one.total += total.amount;
    one.captured += captured.amount;
    one.refunded += refunded.amount;
    all.set(currency, one);
  }
  const words = [...all].map(([currency, one]) => {
    const some = (amount) => money({ amount, currency });
    return `${some(one.total)} ordered, ${some(one.captured)} captured${one.refunded ? `, ${some(one.refunded)} refunded` : ""}`;
  });
  return words.join("; ");
}

/** Goes to the packing lists of orders. */
export const packing = (rows) => link(["packing", rows.map((row) => row.id).join(",")]);

/** Whether something of an order can be shipped. */
const unshipped = (row) => row.number !== null && ["unfulfilled", "partial"].includes(row.fulfillment_status)
  && !["cancelled", "refunded", "stuck"].includes(row.status);

/** Ships everything that is left of several orders, one after the other; `done(ids)` those that were. */
function shipAll(rows, done) {
  const ready = rows.filter(unshipped).slice(0, MANY_MAX);
  const others = rows.length - ready.length;
  const list = h("ul", { class: "bulk" });
  const progress = h("div", { role: "status" }, list);
  const shipped = new Map();
  /** What was sent for each order, and its key: a key stays as long as the body does. */
  const sent = new Map();
  ask({
    heading: `Ship ${several(ready.length, "order")}`, verb: "Ship", done: () => `${several(shipped.size, "order")} shipped`,
    intro: [h("p", { text: `Everything that is left of ${ready.length === 1 ? "it" : "each"} is shipped as one shipment. A tracking number can be given for single orders only.` }),
      others ? h("p", { class: "faint", text: `${several(others, "other selected order")} ${others === 1 ? "has" : "have"} nothing left to ship.` }) : null, progress],
    fields: [{ name: "carrier", label: "Carrier" }],
    async act({ carrier }) {
      const failed = [];
      for (const row of ready.filter((one) => !shipped.has(one.id))) {
        const at = `/v1/admin/orders/${encodeURIComponent(row.id)}`;
        try {
          const order = await get(at);
          if (sent.get(row.id)?.carrier !== carrier) sent.set(row.id, { carrier, key: freshKey() });
          const body = carrier ? { tracking: { carrier } } : {};
          await send("POST", `${at}/fulfillments`, body, { key: sent.get(row.id).key, version: order.version });
          shipped.set(row.id, row);
        } catch (problem) {
          if (problem.status) sent.delete(row.id);
          failed.push(h("li", {}, h("a", { class: "link", href: link(["orders", row.id]), text: orderName(row) }), ` ${sentence(problem)}`));
        }
        fill(list, h("li", { class: "num", text: `${count(shipped.size)} of ${count(ready.length)} shipped` }), failed);
      }
      done([...shipped.keys()]);
      if (failed.length) throw Object.assign(new Error(`${several(failed.length, "order was", "orders were")} not shipped`), { code: "some_failed" });
    },
  });
}

/**
 * The line above the list: `chosen()` are its selected orders, `wanted()` is the query of all that match,
 * `shipped(ids)` and `none()` end a choice; `pill` tells of new orders.
 */
export class Desk {
  #sum = h("span", { class: "num grow" });
  #doing = h("span", { class: "actions" });

  constructor({ wanted, chosen, shipped, none, pill }) {
    const act = (label, run) => h("button", { class: "button small", type: "button", text: label, onclick: run });
    this.why = whyNot();
    this.element = h("div", { class: "desk" }, this.#sum, pillPlace(pill), this.#doing, this.why);
    this.forShown = [act("Export all as CSV…", () => exportAll(wanted()))];
    this.ship = act("Ship…", () => shipAll(chosen(), shipped));
    this.lists = h("a", { class: "button small packing", text: "Packing lists" });
    this.forChosen = [this.ship, this.lists, act("Export selected as CSV", () => exportChosen(chosen())), act("Select none", none)];
  }

  /** Shows the sums of what is chosen, else of what is shown, which is `amount`. */
  show(rows, chosen, amount) {
    const most = chosen.length >= MANY_MAX ? `, at most ${MANY_MAX} at a time` : "";
    const [of, doing, what] = chosen.length ? [chosen, this.forChosen, `${several(chosen.length, "order")} selected${most}`] : [rows, this.forShown, amount];
    this.element.hidden = of.length === 0;
    text(this.#sum, `${what}: ${sums(of)}`);
    attr(this.lists, "href", packing(chosen));
    allow(this.ship, this.why, "Ship", (chosen.length && refused("orders:write", "ship orders")) || (chosen.length && !chosen.some(unshipped) ? `${chosen.length === 1 ? "the selected order has nothing" : "none of the selected orders has anything"} left to ship.` : null));
    if (this.#doing.firstChild !== doing[0]) fill(this.#doing, doing);
  }
}
