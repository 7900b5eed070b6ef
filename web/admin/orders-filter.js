// Which orders a list shows: what is searched, filtered and sorted by, as the address has it, as the
// server is asked for it, and whether an order that has just come in is one of them.

import { COLUMNS } from "./orders-row.js";
import { empty } from "./parts.js";
import { ORDERS_FOUND_BY } from "./search.js";

export const STATUSES = ["pending", "awaiting_payment", "confirmed", "partially_fulfilled", "fulfilled", "completed", "refunded", "cancelled", "stuck"];
export const PAYMENTS = ["none", "requested", "unknown", "declined", "authorized", "partially_captured", "captured", "partially_refunded", "refunded", "voided"];
export const FULFILLMENTS = ["unfulfilled", "partial", "fulfilled", "not_required"];
/** The days that orders can be asked for. */
export const [DAY_MIN, DAY_MAX] = ["1970-01-01", "2999-12-31"];
/** A day that was only begun to be typed. */
export const UNFINISHED = "?";

/** Whether a text is a day of the calendar that can be asked for. */
function isDay(text) {
  const time = /^\d{4}-\d\d-\d\d$/.test(text) && text >= DAY_MIN && text <= DAY_MAX ? Date.parse(text) : NaN;
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text);
}

/** What is wrong with a range of days: at its first or its last one, or nothing. */
export function dayFault(from, to) {
  const wrong = (text) => (!text || isDay(text) ? null : text === UNFINISHED ? "is not complete" : `must be a day from ${DAY_MIN} to ${DAY_MAX}`);
  const [first, last] = [wrong(from), wrong(to)];
  if (first) return { from: `Placed from: ${first}` };
  if (last) return { to: `Placed until: ${last}` };
  return from && to && from > to ? { to: "Placed until: must not be before the first day" } : null;
}

/** The days that are asked for: none while something is wrong with them. */
const daysOf = ({ from, to }) => (dayFault(from, to) ? { from: "", to: "" } : { from, to });

/** The filter that an address names; what it does not know is left out. */
export function filterOf(query = new URLSearchParams()) {
  const known = (names, value) => (names.includes(value) ? value : "");
  return {
    q: query.get("q") ?? "",
    status: (query.get("status") ?? "").split(",").filter((one) => STATUSES.includes(one)),
    payment_status: known(PAYMENTS, query.get("payment_status")),
    fulfillment_status: known(FULFILLMENTS, query.get("fulfillment_status")),
    from: query.get("from") ?? "",
    to: query.get("to") ?? "",
    sort: known(COLUMNS.flatMap(({ id }) => [id, `-${id}`]), query.get("sort")),
  };
}

/** The same as the query of an address. */
export const asQuery = (filter) => ({ ...filter, status: filter.status.join(",") });

/** The first moment of a day here, or of the day after it. */
function moment(day, after = 0) {
  if (!day) return "";
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + after).toISOString();
}

/** What the server sorts by, by its name in the address. */
const SERVER_SORTS = { "": "", placed: "placed_at" };

/** Whether the server sorts all orders, so that not many must be read to be sorted here. */
export const sortedByServer = ({ sort }) => sort in SERVER_SORTS;

/** The same as the server is asked for it. */
export function wanted({ q, status, payment_status, fulfillment_status, sort, ...days }) {
  const { from, to } = daysOf(days);
  return { q, status: status.join(","), payment_status, fulfillment_status, placed_from: moment(from), placed_to: moment(to, 1), sort: SERVER_SORTS[sort] ?? "" };
}

/** Whether an order was placed on one of the days that are asked for. */
export function inTime(filter, { placed_at: placed }) {
  const days = daysOf(filter);
  const [from, to] = [moment(days.from), moment(days.to, 1)];
  return !((from && Date.parse(placed) < Date.parse(from)) || (to && Date.parse(placed) >= Date.parse(to)));
}

/** Whether anything is searched for or filtered. */
export const filtered = ({ q, status, payment_status, fulfillment_status, ...days }) =>
  Boolean(q || status.length || payment_status || fulfillment_status || daysOf(days).from || daysOf(days).to);

/** Why a list is empty. */
export function nothing(filter) {
  if (filter.q) return empty(`Nothing found for “${filter.q}”`, ORDERS_FOUND_BY);
  if (String(filter.status) === "fulfilled") return empty("No order matches the filter", "Shipped orders whose money is settled, too, are under Completed.");
  return filtered(filter) ? empty("No order matches the filter", "Orders appear here as soon as they match the filter.") : empty("No orders yet", "New orders appear here automatically.");
}
