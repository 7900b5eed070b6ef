// Everything that waits for an operator, worst first, each with what can be done about it.

import { ERASED } from "./address.js";
import { alarms } from "./alarms.js";
import { get, send } from "./api.js";
import { ask, look, sentence } from "./dialog.js";
import { atMost, fill, h, keepFocus, sayHere } from "./dom.js";
import { count, money, orderName, several } from "./format.js";
import { heldList } from "./held.js";
import { listKeys } from "./keys.js";
import { cancel, retry, skip } from "./order-actions.js";
import { allow, badge, empty, failed, loading, panel, pillPlace, pips, when, whyNot } from "./parts.js";
import { refusal } from "./rights.js";
import { link } from "./router.js";
import { alarmOf, alertWords, onlyCancel, stepWords } from "./story.js";

const ROWS_MAX = 50;
const CALM_MAX = 15;
/** A saga that has not moved for so long, in milliseconds, waits for something. */
const WAITS = 5000;

/** Shows the page. */
export function attention(root) {
  const body = h("div", { class: "attention" });
  const list = heldList(body, {
    key: () => (alarms.read || alarms.problem ? JSON.stringify([alarms.problem?.message, sections().map(([heading, rows]) => [heading, rows.map(versionOf)])]) : ""),
    draw() {
      const giveBack = keepFocus(body);
      fill(body, alarms.read || alarms.problem ? parts() : loading(8));
      giveBack();
    },
  });
  fill(root, h("div", { class: "desk" }, h("span", { class: "grow faint", text: "What waits for somebody: the most urgent kind first, and of each what has waited longest" }), pillPlace(list.pill)), body);
  // What was done here is seen at once.
  const draw = atMost(1000, () => list.ask(settled()));
  alarms.addEventListener("change", draw);
  alarms.refresh();
  draw();
  return {
    heading: "Attention",
    keys: { ...listKeys(() => [...body.querySelectorAll("[data-row] a, [data-row] .first")]), n: () => list.ask(true) },
    help: [["n", "Show what is new"]],
    close() {
      acted.clear();
      alarms.removeEventListener("change", draw);
      draw.cancel();
    },
  };
}

/** What somebody has just acted on here, by its id: as it was then. */
const acted = new Map();
const idOf = (one) => one.id ?? one.entity;
/** What tells a row from itself after a change. */
const versionOf = (one) => [idOf(one), one.version, one.attempts, one.reason, whole.get(one.id)?.order?.version];
const act = (one) => acted.set(idOf(one), JSON.stringify(versionOf(one)));

/** Whether something that was acted on has changed since, or is gone; or a row can be completed. */
function settled() {
  const now = new Map(sections().flatMap(([, rows]) => rows).map((one) => [idOf(one), JSON.stringify(versionOf(one))]));
  const done = [...acted].filter(([id, was]) => now.get(id) !== was);
  for (const [id] of done) acted.delete(id);
  const completed = wholeRead;
  wholeRead = false;
  return completed || done.length > 0;
}

/** Rows as an operator takes them: what has waited longest comes first. */
const longest = (rows) => [...rows].sort((one, other) => Date.parse(one.updated_at) - Date.parse(other.updated_at));

/** What waits, by kind: the heading, the rows, how one is shown, and more about it. */
function sections() {
  const waiting = alarms.waiting.filter((order) => order.payment_status !== "unknown" && Date.now() - Date.parse(order.updated_at) > WAITS);
  return [
    ["Stuck sagas and alerts", longest(alarms.stuck.values()), stuckRow, "Steps that need an operator. A step that can be retried is repeated safely."],
    ["Quarantine", alarms.quarantine, quarantineRow, "Entities that cannot be read or keep failing. All other entities work."],
    ["Dead letters", alarms.letters, letterRow, "Events that a projection could not read. The journal is correct; lists can be rebuilt from it.", replayButton],
    ["Parked webhooks", alarms.webhooks, webhookRow, "Webhooks that could not be applied to an order. They are stored, and retried for about 43 minutes."],
    ["Payments with an unknown outcome", longest(alarms.unknown), unknownRow, "kontor asks the provider automatically, with backoff. Act only if this lasts.", null, "wait"],
    ["In progress", longest(waiting), waitingRow, "Sagas that wait for something, such as another payment attempt by the buyer. No action is needed.", null, "mute"],
  ];
}

function parts() {
  const none = alarms.count === 0 && alarms.unknown.length === 0;
  const calm = none && alarms.unseen.length === 0 && !alarms.problem;
  return [
    alarms.unseen.length ? empty(none ? "Not everything can be seen" : "More may need attention", ...alarms.unseen, "Sign in with a key that has it.") : null,
    barred,
    alarms.problem ? failed(alarms.problem, () => alarms.refresh()) : null,
    calm ? h("div", { class: "empty calm big" }, h("span", { class: "tick", "aria-hidden": "true" }), h("p", { class: "empty-title", text: "Nothing needs attention" }),
      h("p", { text: "No saga is stuck, no payment has an unknown outcome, no webhook is parked, no entity is in quarantine." })) : null,
    sections().map((one) => section(...one)),
  ];
}

function section(heading, list, row, why, aside, tone = "bad") {
  if (list.length === 0) return null;
  // What asks for nothing is shown in part only: it changes all the time.
  const most = tone === "bad" ? ROWS_MAX : CALM_MAX;
  const more = list.length > most ? h("p", { class: "hint pad", text: `and ${count(list.length - most)} more` }) : null;
  return panel(heading, [h("span", { class: `tally num ${tone}`, text: count(list.length) }), h("span", { class: "faint wide-only grow", text: why }), aside?.()],
    h("ul", { class: "rows attention-rows", data: { group: heading } }, list.slice(0, most).map(row)), more);
}

function line(name, why, badges, buttons) {
  return h("li", { data: { row: "" } }, h("span", { class: "name" }, name), h("span", { class: "badges" }, badges), h("span", { class: "why" }, why), h("span", { class: "actions" }, buttons));
}

const button = (label, id, run, kind = "") =>
  h("button", { class: `button small ${kind}`, type: "button", text: label, "aria-label": `${label} ${id}`, data: { focus: `${label} ${id}` }, onclick: run });
/** Why the buttons of orders cannot be pressed, if so. */
const barred = whyNot();
/** Buttons that change an order, as far as the session may. */
function orderButtons(...buttons) {
  const all = buttons.filter(Boolean);
  allow(all, barred, "", refusal("orders:write", "change orders"));
  return all;
}
/** Cancels an order, of which nothing was shipped. */
const cancelButton = (order, kind = "danger") => (["partial", "fulfilled"].includes(order.fulfillment_status) ? null : button("Cancel", orderName(order), () => withOrder(order, cancel), kind));
const orderLink = (order) =>
  h("a", { href: link(["orders", order.id]), title: order.id, data: { focus: order.id }, text: orderName(order) });
const facts = (order) => [h("span", { class: "num", text: money(order.total) }), " · ", order.email ?? ERASED, " · ", when(order.updated_at, true)];

/** Reads the whole order first: a row of a list does not say which steps are stuck. */
async function withOrder(row, run) {
  const tell = sayHere();
  try {
    const order = await get(`/v1/admin/orders/${encodeURIComponent(row.id)}`);
    if (tell.here()) {
      run(order, () => {
        act(row);
        alarms.refresh();
      });
    }
  } catch (problem) {
    tell(sentence(problem), true);
  }
}

/** Orders with an alert, whole, by id: a row of a list does not have the amounts. */
const whole = new Map();
/** Whether one was read for a row that is shown: it is completed at once. */
let wholeRead = false;

async function readWhole(row) {
  const known = whole.get(row.id);
  if (known && known.version >= row.version) return;
  whole.set(row.id, { ...known, version: row.version });
  const order = await get(`/v1/admin/orders/${encodeURIComponent(row.id)}`).catch(() => null);
  if (order) whole.set(row.id, { version: order.version, order });
  else whole.delete(row.id);
  if (whole.size > 2 * ROWS_MAX) whole.delete(whole.keys().next().value);
  wholeRead ||= order !== null;
  if (order) alarms.dispatchEvent(new Event("change"));
}

function stuckRow(order) {
  if (order.alert) readWhole(order);
  const known = order.alert ? whole.get(order.id)?.order : null;
  const alarm = known ? alarmOf(known) : { words: alertWords(order.alert), todo: "" };
  const why = order.alert ? alarm.words : [order.saga_step ? stepWords(order.saga_step) : null, order.stuck_reason].filter(Boolean).join(": ");
  const name = orderName(order);
  return line(orderLink(order), [h("b", { text: why }), alarm.todo ? h("span", { text: alarm.todo }) : null, h("span", { class: "faint" }, facts(order))],
    [badge("stuck"), badge(order.payment_status)],
    orderButtons(
      onlyCancel(order) ? null : button(order.alert ? "Clear" : "Retry", name, () => withOrder(order, retry), "primary"),
      order.stuck_reason ? button("Skip", name, () => withOrder(order, skip)) : null,
      cancelButton(order),
    ));
}

const unknownRow = (order) =>
  line(orderLink(order), [h("span", { text: order.saga_step ? stepWords(order.saga_step) : "At the provider" }), h("span", { class: "faint" }, facts(order))], [badge("unknown")],
    orderButtons(cancelButton(order)));

const waitingRow = (order) =>
  line(orderLink(order), [h("span", { text: order.saga_step ? stepWords(order.saga_step) : "" }), h("span", { class: "faint" }, facts(order))], [badge(order.status), pips(order)],
    orderButtons(cancelButton(order, "")));

async function attempt(one, run, done) {
  const tell = sayHere();
  act(one);
  try {
    const answer = await run();
    tell(typeof done === "function" ? done(answer) : done);
  } catch (problem) {
    tell(sentence(problem), true);
  }
  alarms.refresh();
}

function webhookRow(hook) {
  const base = `/v1/admin/webhooks/${encodeURIComponent(hook.id)}`;
  const next = hook.next_try_at ? ["next retry ", when(hook.next_try_at)] : "given up: no further automatic retry";
  return line(h("span", { class: "mono clip", title: hook.notice_id, text: hook.notice_id }),
    [h("b", { text: hook.reason }), h("span", { class: "faint" }, `${hook.provider} · ${several(hook.attempts, "attempt", "attempts")} · received `, when(hook.received_at, true), " · ", next)],
    [badge(hook.next_try_at ? "parked" : "failed")],
    [
      button("Retry", hook.id, () => attempt(hook, () => send("POST", `${base}/retry`), (answer) => (answer.taken ? "The webhook was processed" : `Still parked: ${answer.webhook?.reason ?? "it matches nothing known"}`)), "primary first"),
      button("Discard", hook.id, () => ask({
        heading: "Discard a webhook", verb: "Discard", danger: true, done: "The webhook was discarded",
        intro: `${hook.provider} ${hook.notice_id}: ${hook.reason}. Its content will never be applied.`,
        act: async () => {
          await send("DELETE", base);
          act(hook);
          alarms.refresh();
        },
      }), "danger"),
    ]);
}

const quarantineRow = (one) =>
  line(h("span", { class: "mono clip", title: one.entity, text: one.entity }), [h("b", { text: one.reason }), h("span", { class: "faint" }, when(one.since, true))], [badge("quarantine")],
    [button("Retry", one.entity, () => attempt(one, () => send("POST", `/v1/admin/quarantine/${encodeURIComponent(one.entity)}/retry`),
      (answer) => (answer.quarantined ? `Still in quarantine: ${answer.reason}` : "The entity works again")), "primary first")]);

function letterRow(letter) {
  const base = `/v1/admin/dead-letters/${encodeURIComponent(letter.id)}`;
  return line(h("span", { class: "mono clip", title: letter.entity, text: letter.entity }),
    [h("b", { text: letter.reason }), h("span", { class: "faint" }, `${letter.projection} · shard ${letter.shard}, position ${count(letter.pos)} · `, when(letter.at, true))],
    [badge("dead letter")],
    [
      button("Inspect", letter.entity, () => inspect(letter, base)),
      button("Replay", letter.entity, () => attempt(letter, () => send("POST", `${base}/replay`), (answer) => (answer.replayed ? "The entity's rows are correct again" : `Not replayed: ${answer.reason}`)), "primary first"),
      button("Discard", letter.entity, () => ask({
        heading: "Discard a dead letter", verb: "Discard", danger: true, done: "The dead letter was discarded",
        intro: `${letter.entity}: ${letter.reason}. Its rows are not updated until its next event, which becomes a dead letter again if the history cannot be read.`,
        act: async () => {
          await send("DELETE", base);
          act(letter);
          alarms.refresh();
        },
      }), "danger"),
    ]);
}

async function inspect(letter, base) {
  const tell = sayHere();
  const { body, close } = look(`Dead letter of ${letter.entity}`);
  fill(body, loading(4));
  try {
    const { event, reason } = await get(base);
    fill(body, h("p", { class: "dialog-intro", text: reason }), event
      ? [h("p", { class: "faint" }, `Event ${count(event.seq)}, ${event.kind} in version ${event.version}, `, when(event.at, true), event.intact ? null : ": its checksum does not match"),
        h("div", { class: "raw" }, h("pre", { tabindex: "0", role: "region", "aria-label": "The event", text: pretty(event.data) }), h("pre", { tabindex: "0", role: "region", "aria-label": "Its cause", text: pretty(event.cause) }))]
      : h("p", { class: "faint", text: "The journal does not have this event." }));
  } catch (problem) {
    close();
    tell(sentence(problem), true);
  }
}

/** JSON on several lines; what is none as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

const replayButton = () => button("Rebuild all rows", "", () => ask({
  heading: "Rebuild all rows", verb: "Rebuild", done: "The rebuild has started",
  intro: "All rows of orders and stock are rebuilt from the journal. Until this is done, lists show earlier states; single orders and the shop are not affected.",
  act: async (_, key) => {
    await send("POST", "/v1/admin/dead-letters/replay", undefined, { key });
    alarms.refresh();
  },
}), "primary");
