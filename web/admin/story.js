// The story of an order: what each event means, in words.

import { money, several, title, words } from "./format.js";

/** What the events of an order are called, by their kinds. */
export const TITLES = {
  placed: "Placed",
  payment_retried: "Buyer pays again",
  reserved: "Stock reserved",
  payment_requested: "Stock reserved, payment requested",
  payment_pending: "Payment pending at the provider",
  payment_unknown: "No answer from the provider",
  payment_authorized: "Payment authorized",
  payment_declined: "Payment declined",
  payment_given_up: "Attempt given up, to be reversed",
  payment_reversed: "Attempt reversed",
  payment_voided: "Authorization voided",
  hold_lapsed: "Hold expired",
  hold_yielded: "Units open to other buyers",
  confirmed: "Confirmed",
  capture_requested: "Capture requested",
  captured: "Money captured",
  refund_requested: "Refund requested",
  refunded: "Money refunded",
  refund_restocked: "Goods of the refund settled",
  fulfilled: "Shipped",
  shipped: "Shipment recorded in stock",
  tracking_corrected: "Tracking corrected",
  cancel_requested: "Cancelling",
  cancelled: "Cancelled",
  stuck: "Stuck",
  retry_requested: "Retried",
  step_skipped: "Step skipped",
  alert_raised: "Alert raised",
  alert_cleared: "Alert cleared",
  personal_data_erased: "Personal data erased",
  legal_hold_placed: "Legal hold placed",
  legal_hold_released: "Legal hold released",
  unreadable: "An event that cannot be read",
};

const TONES = {
  payment_unknown: "wait", payment_given_up: "wait", payment_pending: "wait", hold_lapsed: "wait", hold_yielded: "wait",
  payment_declined: "bad", unreadable: "bad",
  stuck: "bad", alert_raised: "bad", cancel_requested: "mute", cancelled: "mute",
  payment_reversed: "mute", payment_voided: "mute", confirmed: "ok", captured: "ok",
  payment_authorized: "ok", fulfilled: "ok", shipped: "ok", refunded: "mute",
};

/** The name of an event. */
export const eventTitle = (kind) => TITLES[kind] ?? title(kind);

/** The tone of an event. */
export const eventTone = (kind) => TONES[kind] ?? "busy";

/** One sentence on what an event says. */
export function sentence(event) {
  const { kind, data = {} } = event;
  const amount = data.amount ? money(data.amount) : "";
  switch (kind) {
    case "placed":
      return `${several(data.lines?.length ?? 0, "line")}, frozen with prices and taxes. Stock is being reserved.`;
    case "payment_requested":
      return `All lines are reserved. ${amount} requested from ${data.provider}, attempt ${data.attempt}.`;
    case "payment_authorized":
      return `${amount} authorized as ${data.payment}.`;
    case "payment_declined":
      return `Declined by the provider: ${words(data.decline_code)}. The buyer may try again until the deadline.`;
    case "payment_unknown":
      return `The payment may have been made; the call is repeated under the same key. ${data.why ?? ""}`;
    case "confirmed":
      return `Paid and allocated; order number ${data.number}.`;
    case "capture_requested":
      return `${amount} will be captured.`;
    case "captured":
      return `${amount} captured, ${data.operation}.`;
    case "refund_requested":
      return `${amount} will be refunded${data.restock ? ", and the goods go back on sale" : ""}.`;
    case "refunded":
      return `Refund ${data.refund} is done, ${data.operation}.`;
    case "fulfilled":
      return data.tracking ? trackingWords(data.tracking) : "Without tracking.";
    case "tracking_corrected":
      return `Shipment ${data.fulfillment}: ${data.tracking ? trackingWords(data.tracking) : "no tracking"}.`;
    case "stuck":
      return `${stepWords(data.step)}: ${data.why}`;
    case "step_skipped":
      return `${stepWords(data.step)} will never be done.`;
    case "alert_raised":
      return alertWords(data.alert);
    case "unreadable":
      return `${title(data.stored_kind)}: ${data.why}`;
    case "cancel_requested":
      return [CAUSES[data.reason] ?? "", ...(data.shortages ?? []).map(({ sku, requested, available }) => `${sku}: ${requested} ordered, ${available} available.`)].filter(Boolean).join(" ");
    case "cancelled":
      return "All stock is released, and all money returned, unless a step of that was skipped.";
    default:
      return "";
  }
}

const ALERTS = {
  amount_mismatch: "The provider authorized another amount than requested.",
  voided_elsewhere: "The authorization was voided at the provider, but not by kontor.",
  capture_mismatch: "The provider captured another amount than requested.",
};

/** What an alert means. */
export const alertWords = (alert) => ALERTS[alert] ?? alert;

const sumOf = (list, currency) => money({ amount: list.reduce((sum, one) => sum + one.amount.amount, 0), currency });

/** What is wrong with a whole order, with its amounts, and what can be done: `{words, todo}`. */
export function alarmOf(order) {
  const odd = order.payments.find((one) => one.authorized && one.authorized.amount !== one.amount.amount);
  const paid = order.payments.find((one) => one.status === "authorized") ?? order.payments.findLast((one) => one.authorized) ?? order.payments.at(-1);
  const at = paid?.payment ? `${paid.provider} (${paid.payment})` : "the provider";
  const todo = onlyCancel(order)
    ? "The order can only be cancelled: what was authorized is reversed, and the buyer can order again."
    : `Look the payment up at ${at}, settle the difference, then clear the alert; or cancel the order.`;
  if (order.alert === "amount_mismatch" && odd) {
    return { words: `${money(odd.amount)} was asked for; the provider authorized ${money(odd.authorized)}.`, todo };
  }
  if (order.alert === "capture_mismatch" && paid?.authorized) {
    return { words: `${money(paid.authorized)} was authorized; the provider captured ${sumOf(order.captures.filter((one) => one.status === "done"), order.currency)}.`, todo };
  }
  if (order.alert === "voided_elsewhere" && paid) {
    return { words: `The authorization of ${money(paid.amount)} was voided at the provider, but not by kontor; ${money(order.captured)} of it was captured.`, todo };
  }
  return { words: order.alert ? alertWords(order.alert) : "", todo };
}

/** What the steps of an order are called, with their number after it. */
export const STEP_NAMES = {
  reserve: "Reserving stock, try", yield: "Opening held units to others, try", authorize: "Payment attempt", commit: "Allocating stock, try", capture: "Capture",
  void: "Voiding attempt", reverse: "Reversing attempt", refund: "Refund", restock: "Restocking refund", ship: "Recording shipment", release: "Releasing stock",
};

/** How a shipment is tracked. */
export const trackingWords = ({ carrier, number, url }) => [carrier, number].filter(Boolean).join(" ") || url;

/** A step in words: `refund:1` is the refund 1. */
export function stepWords(step) {
  const [name, number] = step.split(":");
  return [STEP_NAMES[name] ?? title(name), number].filter(Boolean).join(" ");
}

/** Whether an order with an alert can only be taken back. */
export const onlyCancel = (order) =>
  ["amount_mismatch", "voided_elsewhere"].includes(order.alert) && !order.number;

/** What kontor cancels an order for, and gives back money for; any other reason is in somebody's words. */
export const CAUSES = {
  out_of_stock: "Too few units were in stock.",
  payment_deadline: "It was not paid in time.",
  cancelled_by_buyer: "The buyer cancelled it.",
  cancelled_by_shop: "The shop cancelled it.",
  cancelled: "The order is cancelled.",
};

/** Why an order was cancelled, in words. */
export const causeWords = (reason) => CAUSES[reason] ?? reason;

/** Why it was done, in the words of who did it, if there are any. */
export const reasonOf = ({ data }) => (data?.reason && !(data.reason in CAUSES) ? data.reason : null);
