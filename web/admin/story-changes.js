// What differs between two states of an order, in words.

import { money, title, words } from "./format.js";
import { alertWords, causeWords, stepWords, trackingWords } from "./story.js";

const yes = (value) => (value === null || value === undefined || value === "" ? null : String(value));

/** What is shown of a whole order: the name of each value, and how to read it. */
const OWN = [
  ["status", (order) => yes(words(order.status))],
  ["payment status", (order) => yes(words(order.payment_status))],
  ["shipping status", (order) => yes(words(order.fulfillment_status))],
  ["order number", (order) => yes(order.number)],
  ["captured", (order) => money(order.captured)],
  ["refunded", (order) => money(order.refunded)],
  ["due", (order) => money(order.due)],
  ["alert", (order) => (order.alert ? alertWords(order.alert) : null)],
  ["cancelled because", (order) => yes(causeWords(order.cancel_reason))],
];

/** Everything that can change in an order: the text of each value by its name. */
function told(order) {
  const all = new Map();
  if (!order) return all;
  const tell = (name, text) => text !== null && all.set(name, text);
  const goods = (lines) => lines.map(({ line, quantity }) => `${quantity} × ${order.lines.find((one) => one.id === line)?.name ?? line}`).join(", ");
  for (const [name, read] of OWN) tell(name, read(order));
  for (const one of order.payments) {
    const name = `payment ${one.attempt}`;
    tell(name, words(one.status));
    tell(`${name}, amount`, `${money(one.amount)} by ${one.provider}`);
    tell(`${name}, authorized`, one.authorized && one.authorized.amount !== one.amount.amount ? money(one.authorized) : null);
    tell(`${name}, its ID`, yes(one.payment));
    tell(`${name}, declined`, one.decline_code ? words(one.decline_code) : null);
  }
  for (const one of order.captures) {
    tell(`capture ${one.id}`, words(one.status));
    tell(`capture ${one.id}, amount`, money(one.amount));
  }
  for (const one of order.refunds) {
    const name = `refund ${one.id}`;
    tell(name, words(one.status));
    tell(`${name}, amount`, money(one.amount));
    tell(`${name}, units`, one.lines.length ? `${goods(one.lines)}${one.restock ? ", back on sale" : ""}` : null);
    tell(`${name}, delivery`, one.delivery.amount ? money(one.delivery) : null);
    tell(`${name}, reason`, yes(causeWords(one.reason)));
  }
  for (const one of order.fulfillments) {
    tell(`shipment ${one.id}`, goods(one.lines));
    tell(`shipment ${one.id}, tracking`, one.tracking ? yes(trackingWords(one.tracking)) : null);
  }
  for (const line of order.lines) {
    tell(`${line.name}, shipped`, line.fulfilled ? `${line.fulfilled} of ${line.quantity}` : null);
    tell(`${line.name}, refunded`, line.refunded ? `${line.refunded} of ${line.quantity}` : null);
  }
  for (const one of order.stuck) tell(`stuck: ${stepWords(one.step)}`, one.why);
  return all;
}

/** What differs between two states of an order: `{what, before, after}`, the most wanted first. */
export function changes(before, after) {
  const [old, now] = [told(before), told(after)];
  const list = [...now].filter(([what, text]) => old.get(what) !== text).map(([what, text]) => ({ what, before: old.get(what) ?? null, after: text }));
  const gone = [...old].filter(([what]) => !now.has(what)).map(([what, text]) => ({ what, before: text, after: null }));
  return [...list, ...gone];
}

/** The same, a sentence for each. */
export const changesInWords = (before, after) => changes(before, after).map((one) => `${title(one.what)}: ${one.before ?? "nothing"} → ${one.after ?? "nothing"}`);
