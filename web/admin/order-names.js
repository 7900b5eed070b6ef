// What orders are called: by their numbers, as soon as these are known.

import { get, path } from "./api.js";
import { h, text } from "./dom.js";
import { orderName } from "./format.js";
import { may } from "./rights.js";
import { link } from "./router.js";

/** The most orders that are asked for at once, and that are remembered. */
const ASKED_MAX = 100;
const KNOWN_MAX = 5_000;
/** An order without a number is asked for again after so long, in milliseconds. */
const AGAIN = 5_000;
const numbers = new Map();
const asked = new Map();

/** A link to an order by its id; `nameOrders` gives it its number. */
export const orderLink = (id, focus = id) =>
  h("a", { href: link(["orders", id]), title: id, data: { order: id, focus }, text: orderName({ id, number: numbers.get(id) }) });

/** Reads the numbers of the orders that are linked below an element, and writes them there. */
export async function nameOrders(element) {
  if (!may("orders:read")) return;
  const now = Date.now();
  const links = [...element.querySelectorAll("a[data-order]")];
  const ids = [...new Set(links.map((one) => one.dataset.order))];
  const open = ids.filter((id) => !numbers.has(id) && now - (asked.get(id) ?? 0) > AGAIN);
  if (numbers.size + asked.size > KNOWN_MAX) for (const map of [numbers, asked]) map.clear();
  for (const id of open) asked.set(id, now);
  for (let at = 0; at < open.length; at += ASKED_MAX) {
    const some = open.slice(at, at + ASKED_MAX);
    // What cannot be read keeps its id.
    const page = await get(path("/v1/admin/orders", { id: some.join(","), limit: ASKED_MAX })).catch(() => ({ data: [] }));
    for (const { id, number } of page.data) if (number) numbers.set(id, number);
  }
  for (const one of links) text(one, orderName({ id: one.dataset.order, number: numbers.get(one.dataset.order) }));
}
