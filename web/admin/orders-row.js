// One row of the list of orders: its cells, its columns, and how rows are sorted by each.

import { ERASED } from "./address.js";
import { attr, fill, h, text } from "./dom.js";
import { money, orderName } from "./format.js";
import { badge, pips, reached, setBadge, setPips, setWhen } from "./parts.js";
import { link } from "./router.js";
import { findings } from "./search.js";

const age = ({ placed_at: placed, id }) => `${placed} ${id}`;
const status = (name) => (row) => row[name];

/** The columns: `{name, before?, kind, by}`; `before` is said where the column before has no room, `by` is what rows are sorted by, and its name in the address. */
export const COLUMNS = [
  { name: "Order", kind: "c-order", id: "number", by: (row) => row.number ?? Infinity },
  { name: "Progress", kind: "c-pips", id: "progress", by: reached },
  { name: "Status", kind: "c-status", id: "status", by: status("status") },
  { name: "Payment", kind: "c-payment", id: "payment", by: status("payment_status") },
  { name: "Shipping", kind: "c-goods", id: "fulfillment", by: status("fulfillment_status") },
  { name: "Buyer", kind: "c-buyer", id: "buyer", by: (row) => (row.buyer_name ?? "").toLowerCase() },
  { name: "Email", before: "Buyer · ", kind: "c-who", id: "email", by: (row) => (row.email ?? "").toLowerCase() },
  { name: "Units", kind: "end c-items", id: "items", by: (row) => row.item_count },
  { name: "Total", kind: "end c-total", id: "total", by: (row) => row.total.amount },
  { name: "Placed", kind: "end c-time", id: "placed", by: age },
];

/** Compares rows by a sort such as `total` or `-total`; without one the newest come first. */
export function sorter(sort) {
  const down = !sort || sort.startsWith("-");
  const { by } = COLUMNS.find((one) => one.id === sort.replace(/^-/, "")) ?? COLUMNS.at(-1);
  const order = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
  return (one, other) => (down ? -1 : 1) * order(by(one), by(other)) || order(age(other), age(one));
}

/** A row; `choose(id, chosen)` is told when it is selected. */
export function makeRow(choose) {
  const parts = {
    box: h("input", { type: "checkbox" }),
    link: h("a", { class: "row-link" }),
    pips: pips({ payment_status: "none" }),
    status: badge("pending"),
    payment: badge("none"),
    goods: badge("unfulfilled"),
    buyer: h("td", { class: "c-buyer clip" }),
    name: h("span", { class: "name" }),
    email: h("span"),
    found: h("span", { class: "found", hidden: true }),
    items: h("td", { class: "end num c-items" }),
    total: h("td", { class: "end num strong c-total" }),
    time: h("time", {}),
  };
  parts.box.addEventListener("change", () => choose(parts.id, parts.box.checked));
  parts.element = h("tr", { data: { row: "" } },
    h("td", { class: "c-box" }, h("label", {}, parts.box)),
    h("th", { scope: "row", class: "c-order" }, parts.link),
    h("td", { class: "c-pips" }, parts.pips),
    h("td", { class: "c-status" }, parts.status),
    h("td", { class: "c-payment" }, parts.payment),
    h("td", { class: "c-goods" }, parts.goods),
    parts.buyer,
    h("td", { class: "c-who" }, h("span", { class: "clip" }, parts.name, parts.email), parts.found),
    parts.items, parts.total,
    h("td", { class: "end faint c-time" }, parts.time));
  parts.element.addEventListener("click", (event) => {
    if (!event.target.closest("a, label") && !getSelection()?.toString()) parts.link.click();
  });
  return parts;
}

/** Writes an order into a row, with what was found in it by a search. */
export function writeRow({ row, parts, gone }, chosen, q) {
  parts.id = row.id;
  parts.box.checked = chosen;
  attr(parts.box, "aria-label", `Select ${orderName(row)}`);
  attr(parts.link, "href", link(["orders", row.id]));
  attr(parts.link, "title", row.id);
  text(parts.link, orderName(row));
  parts.element.classList.toggle("gone", Boolean(gone));
  setPips(parts.pips, row);
  setBadge(parts.status, row.status);
  setBadge(parts.payment, row.payment_status);
  setBadge(parts.goods, row.fulfillment_status);
  text(parts.buyer, row.buyer_name ?? ERASED);
  attr(parts.buyer, "title", row.buyer_name ?? ERASED);
  text(parts.name, row.buyer_name ? `${row.buyer_name} · ` : "");
  text(parts.email, [row.email ?? ERASED, row.country].filter(Boolean).join(" · "));
  const found = JSON.stringify([q, q && row.matched]);
  if (parts.wrote !== found) fill(parts.found, q ? findings(row.matched ?? [], q) : []);
  parts.wrote = found;
  parts.found.hidden = !q || !row.matched?.length;
  text(parts.items, row.item_count);
  text(parts.total, money(row.total));
  setWhen(parts.time, row.placed_at);
}
