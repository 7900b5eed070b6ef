// What an operator can do to an order, each with a reason: what applies now, and its dialog.

import { send } from "./api.js";
import { ask } from "./dialog.js";
import { h } from "./dom.js";
import { minor, money, orderName, shift, exponent } from "./format.js";
import { alertWords, onlyCancel } from "./story.js";

const left = (line) => line.quantity - line.fulfilled - line.refunded;
const post = (order, what, body, key) =>
  send("POST", `/v1/admin/orders/${encodeURIComponent(order.id)}/${what}`, body, { key, version: order.version });
const REASON = { name: "reason", label: "Reason", type: "reason", required: true, why: "say why, in a few words", hint: "Kept in the order's history with your name." };

/** The actions that apply to an order as it is, the most wanted first: `{name, danger?, run}`. */
export function actionsOf(order, now) {
  const stuck = order.stuck.length > 0;
  const confirmed = order.phase === "confirmed";
  const authorized = order.payments.filter((one) => one.status === "authorized").reduce((sum, one) => sum + one.amount.amount, 0);
  const asked = order.captures.reduce((sum, one) => sum + one.amount.amount, 0);
  const list = [];
  if ((stuck || order.alert) && !onlyCancel(order)) list.push({ name: order.alert ? "Clear the alert" : "Retry", primary: true, run: () => retry(now()) });
  if (stuck) list.push({ name: "Skip a step", run: () => skip(now()) });
  if (confirmed && order.lines.some((line) => left(line) > 0)) list.push({ name: "Fulfill", primary: !stuck, run: () => fulfill(now()) });
  if (confirmed && authorized > asked) list.push({ name: "Capture", run: () => capture(now(), authorized - asked) });
  if (order.captured.amount > order.refunded.amount) list.push({ name: "Refund", run: () => refund(now()) });
  const cancellable = !["cancelling", "cancelled"].includes(order.phase) && order.fulfillments.length === 0;
  if (cancellable) list.push({ name: "Cancel", danger: true, run: () => cancel(now()) });
  return list;
}

/** Lets a stuck order go on. */
export function retry(order, done) {
  const why = order.stuck[0] ? `${order.stuck[0].step}: ${order.stuck[0].why}` : "";
  const texts = order.alert
    ? { heading: `Clear the alert of ${orderName(order)}`, verb: "Clear the alert", intro: `${alertWords(order.alert)} After that, the order continues in its current state.` }
    : { heading: `Retry order ${orderName(order)}`, verb: "Retry", intro: `The stuck step is ${why}. Every step can be repeated safely, under the same key.` };
  ask({
    ...texts, done: "The saga continues",
    fields: [REASON],
    act: async ({ reason }, key) => {
      await post(order, "retry", { reason }, key);
      done?.();
    },
  });
}

/** Gives a stuck step up. */
export function skip(order, done) {
  const steps = order.stuck ?? [];
  ask({
    heading: `Skip a step of ${orderName(order)}`, verb: "Skip the step", danger: true, done: "The step was skipped",
    intro: "The step will never be done. You must settle the money or goods that it would have moved.",
    fields: [
      ...(steps.length ? [{ name: "step", label: "Step", type: "select", required: true, options: steps.map((one) => [one.step, `${one.step}: ${one.why}`]) }] : []),
      REASON,
    ],
    act: async (values, key) => {
      await post(order, "skip", values, key);
      done?.();
    },
  });
}

/** Takes an order back. */
export function cancel(order, done) {
  const paid = order.captured.amount > 0 ? ` ${money(order.captured)} will be refunded to the buyer.` : "";
  ask({
    heading: `Cancel order ${orderName(order)}`, verb: "Cancel the order", danger: true, done: "The order is being cancelled",
    intro: `Its stock is released and its payment reversed. This cannot be undone.${paid}`,
    fields: [REASON],
    act: async ({ reason }, key) => {
      await post(order, "cancel", { reason }, key);
      done?.();
    },
  });
}

function capture(order, rest) {
  const { currency } = order;
  const digits = exponent(currency);
  ask({
    heading: `Capture from ${orderName(order)}`, verb: "Capture", done: "The capture was requested",
    intro: `${money({ amount: rest, currency })} are authorized and not captured yet.`,
    fields: [amountField("amount", "Amount", currency, { value: shift(rest, digits), required: true })],
    act: ({ amount }, key) => post(order, "captures", { amount: amountOf(amount, currency, "amount") }, key),
  });
}

function amountField(name, label, currency, more = {}) {
  return { name, label: `${label}, ${currency}`, inputmode: "decimal", ...more };
}

function amountOf(typed, currency, field) {
  const amount = minor(typed, currency);
  if (amount === null || amount === 0) {
    const error = new Error("not an amount");
    error.errors = [{ field, message: `must be an amount of ${currency}, such as ${shift(1250, exponent(currency))}` }];
    throw error;
  }
  return { amount, currency };
}

/** A number of units for each line. */
function units(name, label, lines, most, value) {
  const inputs = lines.map((line) => h("input", {
    type: "number", min: "0", max: most(line), step: "1", value: value(line), inputmode: "numeric", "aria-label": `${label}: ${line.name}`,
  }));
  const element = h("div", { class: "units" }, lines.map((line, at) => h("div", { class: "unit-row" },
    h("span", { class: "clip" }, line.name, h("span", { class: "faint mono", text: ` ${line.sku}` })),
    inputs[at], h("span", { class: "faint", text: `of ${most(line)}` }))));
  const read = () => lines.map((line, at) => ({ line: line.id, quantity: Number(inputs[at].value || 0) })).filter((one) => one.quantity > 0);
  return { name, label, element, read };
}

function fulfill(order) {
  const lines = order.lines.filter((line) => left(line) > 0);
  ask({
    heading: `Fulfill order ${orderName(order)}`, verb: "Fulfill", done: "The fulfillment was created",
    fields: [
      units("lines", "Units to ship", lines, left, left),
      { name: "carrier", label: "Carrier" },
      { name: "number", label: "Tracking number" },
      { name: "url", label: "Tracking URL", type: "url" },
    ],
    act: ({ lines: chosen, carrier, number, url }, key) => {
      if (!chosen.length) throw complaint("lines", "choose at least one unit");
      if (Boolean(carrier) !== Boolean(number)) throw complaint(carrier ? "number" : "carrier", "carrier and tracking number are required together");
      const tracking = carrier ? { carrier, number, ...(url ? { url } : {}) } : undefined;
      return post(order, "fulfillments", { lines: chosen, tracking }, key).catch((problem) => {
        for (const one of problem.errors ?? []) one.field = one.field.replace(/^tracking\./, "");
        throw problem;
      });
    },
  });
}

function complaint(field, message) {
  const error = new Error(message);
  error.errors = [{ field, message }];
  return error;
}

function refund(order) {
  const { currency } = order;
  const rest = { amount: order.captured.amount - order.refunded.amount, currency };
  const lines = order.lines.filter((line) => line.quantity > line.refunded);
  ask({
    heading: `Refund order ${orderName(order)}`, verb: "Refund", danger: true, done: "The refund was requested",
    intro: `At most ${money(rest)} can be refunded. For units, their exact share of what was paid is refunded.`,
    fields: [
      ...(lines.length ? [units("lines", "Units to refund", lines, (line) => line.quantity - line.refunded, () => 0)] : []),
      amountField("delivery", "Delivery", currency),
      amountField("amount", "Any other amount", currency),
      { name: "restock", label: "Put the goods back on sale", type: "checkbox" },
      REASON,
    ],
    act: ({ lines: chosen = [], delivery, amount, restock, reason }, key) => {
      const body = { restock, reason };
      if (chosen.length) body.lines = chosen;
      if (delivery) body.delivery = amountOf(delivery, currency, "delivery");
      if (amount) body.amount = amountOf(amount, currency, "amount");
      if (!chosen.length && !delivery && !amount) throw complaint("amount", "enter units, an amount for the delivery, or another amount");
      return post(order, "refunds", body, key).catch((problem) => {
        throw problem.code === "refund_too_large" ? complaint("amount", `all parts together can be at most ${money(rest)}`) : problem;
      });
    },
  });
}
