// What an operator can do to an order, each with a reason: what applies now, and its dialog.

import { get, send } from "./api.js";
import { ask, complaint, reason } from "./dialog.js";
import { atMost, h } from "./dom.js";
import { minor, money, orderName, several, shift, exponent } from "./format.js";
import { live } from "./live.js";
import { packing } from "./orders-desk.js";
import { alarmOf, onlyCancel, stepWords } from "./story.js";
import { changesInWords } from "./story-changes.js";

const left = (line) => line.open;
const place = (order) => `/v1/admin/orders/${encodeURIComponent(order.id)}`;
const post = (order, what, body, key) => send("POST", `${place(order)}/${what}`, body, { key, version: order.version });
const REASON = reason();

/** An order as what a dialog is about: what changes in it is said in the dialog. */
const about = (order) => ({
  now: order,
  read: () => get(place(order)),
  changes: changesInWords,
  follow(look) {
    const soon = atMost(150, look);
    const subscription = live.subscribe("orders", { filter: { order: order.id }, limit: 1 }, {
      snapshot: ([row]) => row?.version > order.version && soon(),
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

/** Why an order cannot be shipped, if so. */
function unshippable(order) {
  if (order.phase !== "confirmed") return "Only a confirmed order can be shipped.";
  if (order.alert) return "An order with an alert cannot be shipped: clear the alert first.";
  return order.lines.some((line) => left(line) > 0) ? null : "Nothing is left to ship.";
}

/** Why an order cannot be cancelled, if so. */
function uncancellable({ phase, stuck, alert, fulfillments }) {
  if (["cancelling", "cancelled"].includes(phase)) return "It is cancelled already.";
  if (fulfillments.length) return "Goods were shipped: refund what is returned instead of cancelling.";
  return phase === "committing" && !stuck.length && !alert ? "The order is being confirmed: it can be cancelled in a moment." : null;
}

/** Why nothing can be captured from an order, if so. */
function uncapturable(order) {
  if (order.phase !== "confirmed") return "Only a confirmed order can be captured.";
  if (order.captures.some((one) => one.status === "requested") && !order.stuck.length) return "A capture is in progress.";
  return uncaptured(order) > 0 ? null : "Nothing is left to capture.";
}

/** What was captured, and is neither refunded nor to be, in minor units. */
const keptOf = ({ captured, refunds }) => refunds.filter((one) => one.status !== "skipped").reduce((left, one) => left - one.amount.amount, captured.amount);

/** Why nothing can be refunded, if so. */
function unrefundable(order) {
  if (order.phase === "cancelled") return keptOf(order) > 0 ? null : "All of its money is refunded.";
  if (order.phase !== "confirmed") return "Only a confirmed order can be refunded.";
  if (order.captured.amount > order.refunded.amount) return null;
  if (!order.captured.amount && !order.left_to_capture.amount) return "Nothing was captured, and nothing is left to capture.";
  if (order.capture_policy === "at_once" && !order.captured.amount) return "Nothing was captured yet: cancel the order instead.";
  const units = order.lines.some((line) => line.quantity > line.refunded);
  return units && order.left_to_capture.amount > 0 ? null : "Everything that was captured is refunded.";
}

/** The steps that can be given up: the others are repeated, or the order is cancelled. */
const skippable = (order) => order.stuck.filter((one) => !["reserve", "authorize", "commit"].includes(one.step.split(":")[0]));

/**
 * The actions that apply to an order as it is, the most wanted first: `{name, danger?, run}`, or
 * `{name, href}` for a page. What will apply, or is looked for, and cannot be done now has a `why`.
 */
export function actionsOf(order, now) {
  const stuck = order.stuck.length > 0;
  const confirmed = order.phase === "confirmed";
  const list = [];
  if ((stuck || order.alert) && !onlyCancel(order)) list.push({ name: order.alert ? "Clear the alert" : "Retry", primary: true, run: () => retry(now()) });
  if (skippable(order).length) list.push({ name: "Skip a step", run: () => skip(now()) });
  const shipsMore = confirmed && order.lines.some((line) => left(line) > 0);
  if (shipsMore) list.push({ name: "Ship", primary: !stuck, why: unshippable(order), run: () => ship(now()) });
  if (confirmed && uncaptured(order) > 0) list.push({ name: "Capture", why: uncapturable(order), run: () => capture(now()) });
  if (!unrefundable(order)) list.push({ name: "Refund", run: () => refund(now()) });
  if (shipsMore) list.push({ name: "Packing list", href: packing([order]) });
  if (!["cancelling", "cancelled"].includes(order.phase)) list.push({ name: "Cancel", danger: true, why: uncancellable(order), run: () => cancel(now()) });
  return list;
}

/** Lets a stuck order go on. */
export function retry(order, done) {
  const step = order.stuck[0];
  const alarm = alarmOf(order);
  const texts = order.alert
    ? { heading: `Clear the alert of ${orderName(order)}`, verb: "Clear the alert", done: "The alert is cleared; the order continues", intro: `${alarm.words} ${alarm.todo} After that, the order continues in its current state.` }
    : { heading: `Retry order ${orderName(order)}`, verb: "Retry", done: "The order continues", intro: `${step ? `${stepWords(step.step)} failed: ${step.why}. ` : ""}Every step can be repeated safely, under the same key.` };
  ask({
    ...texts, about: about(order),
    impossible: (now) => (now.alert || now.stuck.length ? null : "Nothing is stuck any more: the order continues."),
    fields: [REASON],
    act: async ({ reason }, key, now) => {
      await post(now, "retry", { reason }, key);
      done?.();
    },
  });
}

/** Gives a stuck step up. */
export function skip(order, done) {
  const steps = skippable(order);
  ask({
    heading: `Skip a step of ${orderName(order)}`, verb: "Skip the step", danger: true, done: "The step was skipped", about: about(order),
    impossible: (now) => (skippable(now).length ? null : now.stuck.length ? "This step cannot be skipped: retry it, or cancel the order." : "No step is stuck any more."),
    intro: "The step will never be done. You must settle the money or goods that it would have moved.",
    fields: [
      ...(steps.length ? [{ name: "step", label: "Step", type: "select", required: true, options: steps.map((one) => [one.step, `${stepWords(one.step)}: ${one.why}`]) }] : []),
      REASON,
    ],
    act: async (values, key, now) => {
      await post(now, "skip", values, key);
      done?.();
    },
  });
}

/** Takes an order back. */
export function cancel(order, done) {
  const paid = order.captured.amount > 0 ? ` ${money(order.captured)} will be refunded to the buyer.` : "";
  ask({
    heading: `Cancel order ${orderName(order)}`, verb: "Cancel the order", danger: true, done: "The order is being cancelled", about: about(order),
    impossible: uncancellable,
    intro: `Its stock is released and its payment reversed. This cannot be undone.${paid}`,
    fields: [REASON],
    act: async ({ reason }, key, now) => {
      await post(now, "cancel", { reason }, key);
      done?.();
    },
  });
}

/** What is authorized and neither captured nor being captured, in minor units. */
function uncaptured({ payments, captures }) {
  const authorized = payments.filter((one) => one.status === "authorized").reduce((sum, one) => sum + one.amount.amount, 0);
  return authorized - captures.reduce((sum, one) => sum + one.amount.amount, 0);
}

function capture(order) {
  const { currency } = order;
  const rest = uncaptured(order);
  const digits = exponent(currency);
  ask({
    heading: `Capture from ${orderName(order)}`, verb: "Capture", done: "The capture was requested", about: about(order),
    impossible: uncapturable,
    intro: `${money({ amount: rest, currency })} are authorized and not captured yet; ${money(order.left_to_capture)} of it is still to be paid.`,
    fields: [amountField("amount", "Amount", currency, { value: shift(order.left_to_capture.amount, digits), required: true, least: 1 })],
    act: ({ amount: typed }, key, now) => {
      const amount = minor(typed, currency);
      refuseMore("amount", amount, uncaptured(now), currency);
      return post(now, "captures", { amount: { amount, currency } }, key);
    },
  });
}

/** A field for an amount, which is at least `least` in minor units. */
function amountField(name, label, currency, { least = 0, ...more } = {}) {
  const wrong = `must be an amount of ${currency}, such as ${shift(1250, exponent(currency))}`;
  return {
    name, label: `${label}, ${currency}`, inputmode: "decimal", ...more,
    check: (typed) => ((minor(typed, currency) ?? -1) < least ? wrong : null),
  };
}

/** Refuses an amount in minor units that is more than there is. */
function refuseMore(field, amount, most, currency) {
  if (amount > most) throw complaint(field, most > 0 ? `can be at most ${money({ amount: most, currency })}` : "nothing is left of it");
}

/**
 * A number of units for each line, with what is wrong at each; `most(line)` are the units that there
 * are, `note(line)` says more of a line.
 */
function units(name, label, lines, most, value, note = () => "") {
  const rows = lines.map((line, at) => {
    const wrong = h("p", { class: "field-error", id: `${name}-${at}-error`, hidden: true });
    const input = h("input", {
      type: "number", min: "0", step: "1", value: value(line), inputmode: "numeric",
      "aria-label": `${label}: ${line.name}`, "aria-describedby": `${name}-${at}-error`,
    });
    const of = h("span", { class: "faint" });
    const words = note(line);
    const element = h("div", { class: "unit-row" },
      h("span", {}, line.name, h("span", { class: "faint mono", text: ` ${line.sku}` }), words ? h("span", { class: "faint num block", text: words }) : null),
      input, of, wrong);
    const complain = (message) => {
      wrong.hidden = !message;
      wrong.textContent = message ?? "";
      if (message) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    };
    return { line, input, of, element, complain };
  });
  const chosen = () => rows.filter(({ input }) => input.validity.badInput || Number(input.value) !== 0);
  const fault = ({ line, input }) => {
    const quantity = Number(input.value);
    if (input.validity.badInput || !Number.isInteger(quantity) || quantity < 0) return `a whole number from 0 to ${most(line)}`;
    if (quantity <= most(line)) return null;
    return most(line) > 0 ? `only ${several(most(line), "unit")} left` : "no unit is left";
  };
  const show = () => {
    for (const { line, input, of } of rows) {
      input.max = most(line);
      of.textContent = `of ${most(line)}`;
    }
  };
  show();
  return {
    name, label,
    element: h("div", { class: "units" }, rows.map((one) => one.element)),
    read: () => chosen().map(({ line, input }) => ({ line: line.id, quantity: Number(input.value) })),
    check: () => rows.map(fault).find(Boolean),
    /** Says what is wrong at the rows that are meant; false if none is. */
    complain(message, at) {
      if (!message) for (const one of rows) one.complain(null);
      const row = chosen()[Number(/\[(\d+)\]/.exec(at ?? "")?.[1] ?? NaN)];
      const wrong = !message || at ? [] : rows.filter(fault);
      for (const one of wrong) one.complain(fault(one));
      row?.complain(message);
      return Boolean(row) || wrong.length > 0;
    },
    /** Shows the lines of an order that has changed. */
    follow(order) {
      for (const one of rows) one.line = order.lines.find((line) => line.id === one.line.id) ?? one.line;
      show();
      return true;
    },
  };
}

/** The fields for the tracking data of a shipment, all of them optional. */
const trackingFields = ({ carrier, number, url } = {}) => [
  { name: "carrier", label: "Carrier", half: true, also: ["tracking.carrier"], value: carrier ?? "" },
  { name: "number", label: "Tracking number", half: true, also: ["tracking.number"], value: number ?? "" },
  {
    name: "url", label: "Tracking address", also: ["tracking.url"], type: "url", value: url ?? "",
    hint: "A web address, such as https://carrier.example/track/123.",
  },
];

/** The tracking data that was entered; nothing if none was. */
function trackingOf({ carrier, number, url }) {
  const given = Object.entries({ carrier, number, url }).filter(([, value]) => value);
  return given.length ? Object.fromEntries(given) : null;
}

/** The tracking data as the whole of them: what is empty is cleared. */
const changeOf = ({ carrier, number, url }) => ({ carrier: carrier || null, number: number || null, url: url || null });

function ship(order) {
  const lines = order.lines.filter((line) => left(line) > 0);
  const goods = units("lines", "Units to ship", lines, left, left);
  ask({
    heading: `Ship order ${orderName(order)}`, verb: "Ship", done: "The shipment was created", about: about(order), impossible: unshippable,
    fields: [
      goods,
      ...trackingFields(),
    ],
    act: ({ lines: chosen, ...tracking }, key, now) => {
      if (!chosen.length) throw complaint("lines", "choose at least one unit");
      return post(now, "fulfillments", { lines: chosen, tracking: trackingOf(tracking) }, key);
    },
  });
}

/** Puts the tracking data of a shipment right, or adds them. */
export function correctTracking(order, { id, tracking }) {
  ask({
    heading: `Tracking of shipment ${id} of ${orderName(order)}`, verb: "Save", done: "The tracking was corrected", about: about(order),
    intro: "Every correction is kept in the order's history. Without any of the three, the shipment has no tracking.",
    fields: trackingFields(tracking ?? {}),
    act: (values, key, now) => send("PATCH", `${place(now)}/fulfillments/${encodeURIComponent(id)}`, { tracking: trackingOf(values) && changeOf(values) }, { key, version: now.version }),
  });
}

/** What was paid for a line, in minor units. */
const paidFor = (line, order) => line.total.amount + (order.totals.tax_included ? 0 : line.tax.amount);
const refundedOf = (line, order) => order.refunds.flatMap((one) => one.lines).filter((one) => one.line === line.id).reduce((sum, one) => sum + one.amount.amount, 0);

/** What units of a line come to: the share of all up to the last, less that of all before. */
function shareOf(line, order, quantity) {
  const share = (many) => Math.round((paidFor(line, order) * many) / line.quantity);
  const rest = paidFor(line, order) - refundedOf(line, order);
  return Math.max(0, Math.min(rest, share(line.refunded + quantity) - share(line.refunded)));
}

/**
 * What of the price of refunded units is not captured any more, instead of being refunded, in minor
 * units: at dispatch that of units that were not shipped.
 */
function waivedOf(units, order, from) {
  const waivable = ([line, quantity]) => {
    if (order.capture_policy === "by_hand") return shareOf(line, order, quantity);
    const shipped = from === "fulfilled" ? quantity : Math.max(0, quantity - left(line));
    return order.capture_policy === "at_dispatch" ? shareOf(line, order, quantity) - shareOf(line, order, shipped) : 0;
  };
  return Math.min(order.left_to_capture.amount, units.reduce((sum, one) => sum + waivable(one), 0));
}

/** What is left of the price of the delivery, in minor units. */
function deliveryLeft({ delivery, totals, lines, refunds }) {
  const tax = totals.tax.amount - lines.reduce((sum, one) => sum + one.tax.amount, 0);
  const paid = delivery.price.amount + (totals.tax_included ? 0 : tax);
  return paid - refunds.reduce((sum, one) => sum + one.delivery.amount, 0);
}

/** Shipped units of a line that have come back. */
const cameBack = (line, { refunds }) => refunds.flatMap((one) => one.lines).filter((one) => one.line === line.id).reduce((sum, one) => sum + one.fulfilled, 0);

/** Refunds what is left of the money of a cancelled order, because the step of its refund was skipped. */
function refundRest(order) {
  const { currency } = order;
  ask({
    heading: `Refund order ${orderName(order)}`, verb: "Refund", danger: true, done: "The refund was requested", about: about(order), impossible: unrefundable,
    intro: `The order is cancelled, and ${money({ amount: keptOf(order), currency })} of its money was not refunded.`,
    fields: [
      amountField("amount", "Amount", currency, { least: 1, required: true, value: shift(keptOf(order), exponent(currency)) }),
      REASON,
    ],
    act: ({ amount, reason }, key, now) => {
      refuseMore("amount", minor(amount, currency), keptOf(now), currency);
      return post(now, "refunds", { amount: { amount: minor(amount, currency), currency }, reason }, key);
    },
  });
}

function refund(order) {
  if (order.phase === "cancelled") return refundRest(order);
  const { currency } = order;
  const rest = (now) => now.captured.amount - now.refunded.amount;
  const some = (amount) => money({ amount, currency });
  const lines = order.lines.filter((line) => line.quantity > line.refunded);
  const most = (line) => line.quantity - line.refunded;
  const goods = units("lines", "Units to refund", lines, most, () => 0, (line) => `${some(Math.round(paidFor(line, order) / line.quantity))} each`);
  // Units of a line are of two kinds: which ones come back must be said.
  const mixed = lines.some((line) => line.fulfilled > 0 && left(line) > 0);
  const tooManyOf = ({ lines: chosen = [], from }, now) => {
    const limit = (line) => (from === "fulfilled" ? line.fulfilled - cameBack(line, now) : from ? left(line) : most(line));
    const line = now.lines.find((one) => chosen.some(({ line: id, quantity }) => id === one.id && quantity > limit(one)));
    return line && `${line.name}: at most ${several(limit(line), "such unit")}`;
  };
  const parts = ({ lines: chosen = [], from, delivery, amount }, now) => {
    const known = chosen.map(({ line, quantity }) => [now.lines.find((one) => one.id === line), quantity]).filter(([line]) => line);
    const sum = known.reduce((all, [line, quantity]) => all + shareOf(line, now, quantity), 0);
    const waived = waivedOf(known, now, from);
    return { all: sum - waived + (minor(delivery, currency) ?? 0) + (minor(amount, currency) ?? 0), waived };
  };
  ask({
    heading: `Refund order ${orderName(order)}`, verb: "Refund", danger: true, done: "The refund was requested", about: about(order), impossible: unrefundable,
    intro: `${some(order.captured.amount)} captured${order.refunded.amount ? `, ${some(order.refunded.amount)} refunded already` : ""}. The delivery was ${money(order.totals.delivery)}.`,
    fields: [
      ...(lines.length ? [goods] : []),
      ...(mixed ? [{ name: "from", label: "Which units", type: "select", options: [
        ["unfulfilled", "Units that were not shipped: they will not be"], ["fulfilled", "Shipped units that came back"],
        ["", "Units that were not shipped first, then shipped ones"],
      ] }] : []),
      amountField("delivery", "Delivery", currency, { half: true }),
      amountField("amount", "Other amount", currency, { half: true }),
      { name: "restock", label: "Put the goods back on sale; otherwise units that were not shipped are written off", type: "checkbox", value: !order.fulfillments.length },
      REASON,
    ],
    sum(values, now) {
      const { all, waived } = parts(values, now);
      const delivery = minor(values.delivery, currency) ?? 0;
      const over = tooManyOf(values, now);
      if (over) return h("span", { class: "over", text: over });
      if (delivery > deliveryLeft(now)) return h("span", { class: "over", text: `At most ${some(deliveryLeft(now))} of the delivery can be refunded` });
      if (all > rest(now)) return h("span", { class: "over", text: `At most ${some(rest(now))} can be refunded in all` });
      const less = waived ? `; ${some(waived)} will not be captured` : "";
      return [h("span", { text: "To refund" }), h("b", { class: "num", text: some(all) }),
        h("span", { class: "faint num", text: `of ${some(rest(now))} that can be refunded${less}` })];
    },
    act: (values, key, now) => {
      const { lines: all = [], from, restock, reason } = values;
      const chosen = from ? all.map((line) => ({ ...line, from })) : all;
      const [delivery, amount] = [minor(values.delivery, currency), minor(values.amount, currency)];
      if (!chosen.length && !delivery && !amount) throw complaint("amount", "enter units, an amount for the delivery, or another amount");
      refuseMore("delivery", delivery, deliveryLeft(now), currency);
      refuseMore("amount", amount, rest(now), currency);
      const body = { restock, reason };
      if (chosen.length) body.lines = chosen;
      if (delivery) body.delivery = { amount: delivery, currency };
      if (amount) body.amount = { amount, currency };
      return post(now, "refunds", body, key).catch((problem) => {
        if (problem.code !== "refund_too_large") throw problem;
        // The server names what is left in minor units; other refunds may be on their way.
        const [part] = problem.errors ?? [];
        const left = some(Number(/at most (\d+)/.exec(part?.message ?? problem.message)?.[1] ?? rest(now)));
        throw part ? complaint(part.field, `can be at most ${left}`)
          : complaint(amount || !delivery ? "amount" : "delivery", `all parts together can be at most ${left}`);
      });
    },
  });
}
