// One order: what it is, how it came to be so, event by event, and what can be done to it.

import { ERASED, addressLines, countryName } from "./address.js";
import { get, path } from "./api.js";
import { arrange, atMost, attr, fill, h, keepFocus, perFrame, text } from "./dom.js";
import { clock, exact, isKontor, millis, money, people, several, title } from "./format.js";
import { heldList } from "./held.js";
import { follows, live } from "./live.js";
import { places, readNames, whereOf } from "./location-names.js";
import { actionsOf, correctTracking } from "./order-actions.js";
import { allow, badge, facts, failed, flash, icon, loading, panel, pips, setPips, until, when, whyNot } from "./parts.js";
import { refusal } from "./rights.js";
import { addressOf, go, link, restate } from "./router.js";
import { trackingAddress } from "./carriers.js";
import { alarmOf, causeWords, eventTitle, eventTone, reasonOf, sentence, stepWords, trackingWords } from "./story.js";
import { changes } from "./story-changes.js";

/** The most events whose changes are worked out without being asked for. */
const DIFFS_MAX = 60;
const EVENTS_MAX = 2000;

/** Shows the page. */
export function order(root, { parts, query }) {
  const page = new Page(parts[1], root, Number(query.get("seq")) || null);
  return {
    heading: "Order",
    keys: {
      ArrowLeft: () => page.step(-1),
      ArrowRight: () => page.step(1),
      j: () => page.step(1),
      k: () => page.step(-1),
      Home: () => page.look(1),
      End: () => page.look(null),
      Escape: () => page.leave(),
    },
    help: [["←  →", "Earlier and later"], ["Home", "As placed"], ["End", "Current state"]],
    update: ({ query: next }) => page.look(Number(next.get("seq")) || null),
    reconnected: () => page.reread(),
    close: () => page.close(),
  };
}

class Page {
  #id;
  #root;
  #seq;
  #now = null;
  #events = [];
  #states = new Map();
  #items = new Map();
  #reading = false;
  #again = false;
  #drawn = { seq: 0, version: 0 };
  #paint = perFrame(() => this.#draw());
  reread = atMost(150, () => this.#read());

  constructor(id, root, seq) {
    this.#id = id;
    this.#root = root;
    this.#seq = seq;
    fill(root, loading(8));
    this.subscription = live.subscribe("orders", { filter: { order: id }, limit: 1 }, {
      changes: (list) => {
        if (list.some((change) => follows(this.#now?.version ?? 0, change) !== "stale")) this.reread();
      },
      snapshot: ([row]) => row && this.#now && row.version > this.#now.version && this.reread(),
    });
    this.#read();
  }

  get #base() {
    return `/v1/admin/orders/${encodeURIComponent(this.#id)}`;
  }

  async #read() {
    if (this.#reading) {
      this.#again = true;
      return;
    }
    this.#reading = true;
    try {
      const [now] = await Promise.all([get(path(this.#base, { expand: "allocations" })), places().length ? null : readNames()]);
      const events = [];
      let after = null;
      do {
        const page = await get(path(`${this.#base}/events`, { limit: 200, after }));
        events.push(...page.data);
        after = page.next_cursor;
      } while (after && events.length < EVENTS_MAX);
      this.#now = now;
      this.#states.set(now.version, now);
      // An event that came in between is left for the next reading, so that both agree.
      this.#events = events.filter((event) => event.seq <= now.version);
      this.#paint();
    } catch (problem) {
      if (!this.#now) fill(this.#root, failed(problem, () => this.#read()), this.#back());
    }
    this.#reading = false;
    if (this.#again) {
      this.#again = false;
      this.reread();
    }
  }

  #back() {
    return h("p", { class: "centered" }, h("a", { href: addressOf("orders"), text: "All orders" }));
  }

  /** The state after so many events. */
  async #state(seq) {
    if (seq < 1) return null;
    if (!this.#states.has(seq)) this.#states.set(seq, await get(path(this.#base, { at_seq: seq })));
    return this.#states.get(seq);
  }

  /** Works out what each event changed, one after the other. */
  async #compare() {
    for (const event of this.#events.slice(0, DIFFS_MAX)) await this.#explain(event);
  }

  async #explain(event) {
    const item = this.#items.get(event.seq);
    if (!item || item.explained) return;
    item.explained = true;
    try {
      const [before, after] = [await this.#state(event.seq - 1), await this.#state(event.seq)];
      showChanges(item.diff, event.seq === 1 ? [] : changes(before, after));
    } catch {
      item.explained = false;
    }
  }

  /** Moves through its history. */
  step(by) {
    if (!this.#now) return;
    const at = Math.max(1, Math.min(this.#now.version, (this.#seq ?? this.#now.version) + by));
    this.look(at);
  }

  /** Shows it after so many events, or as it is now. */
  look(seq) {
    const latest = !this.#now || (seq !== null && seq >= this.#now.version && this.#now.version > 0);
    this.#seq = this.#now && latest ? null : seq;
    restate(["orders", this.#id], { seq: this.#seq });
    this.#paint();
  }

  /** Esc: back to the present first, then to the list. */
  leave() {
    if (this.#seq) this.look(null);
    else go(addressOf("orders"));
  }

  async #draw() {
    const now = this.#now;
    if (!now) return;
    if (!this.header) this.#build();
    const asked = this.#seq;
    let shown = now;
    if (asked) {
      try {
        shown = await this.#state(Math.min(asked, now.version));
      } catch (problem) {
        text(this.moment, problem.message);
        return;
      }
      if (asked !== this.#seq) return;
    }
    this.#drawSlider(shown);
    this.#drawTimeline();
    this.#compare();
    if (this.#drawn.seq === shown.version && this.#drawn.version === now.version) return;
    this.#drawn = { seq: shown.version, version: now.version };
    const giveBack = keepFocus(this.#root);
    this.#drawHead(shown, Boolean(asked));
    fill(this.main, mainPart(shown, asked ? null : (shipment) => correctTracking(this.#now, shipment), this.barred));
    giveBack();
  }

  #build() {
    this.header = h("header", { class: "order-head" });
    this.warning = h("div");
    this.barred = whyNot();
    this.range = h("input", { type: "range", min: "1", step: "1", id: "history", "aria-label": "History of the order" });
    this.range.addEventListener("input", () => this.look(Number(this.range.value)));
    this.marks = h("div", { class: "marks", "aria-hidden": "true" });
    this.moment = h("output", { class: "moment", for: "history" });
    this.present = h("button", { class: "button small", type: "button", text: "Back to now", onclick: () => this.look(null) });
    const arrow = (by, name, label) => h("button", { class: "icon-button", type: "button", "aria-label": label, onclick: () => this.step(by) }, icon(name));
    this.slider = h("section", { class: "panel history", "aria-label": "History" },
      h("div", { class: "history-line" }, arrow(-1, "left", "One event earlier"),
        h("div", { class: "range" }, this.marks, this.range), arrow(1, "right", "One event later")),
      h("div", { class: "history-words" }, this.moment, this.present));
    this.main = h("div", { class: "order-main" });
    this.timeline = h("ol", { class: "timeline" });
    this.held = heldList(this.timeline, { key: () => `${newestFirst()} ${this.#events.length}`, draw: () => this.#fillTimeline(), news: () => `${this.#events.length - this.#items.size} new` });
    this.turn = h("button", { class: "quiet", type: "button", onclick: () => this.#turn() });
    fill(this.#root, h("div", { class: "order-page" }, this.header, this.warning, this.slider,
      h("div", { class: "order-columns" }, this.main,
        panel("Timeline", [h("span", { class: "faint wide-only", text: "every event, with who and why" }), this.held.pill, this.turn], this.timeline))));
  }

  #drawHead(shown, past) {
    const address = shown.shipping_address;
    const buyer = address ? `${(shown.billing_address ?? address).name} · ${shown.email} · ${address.city}, ${countryName(address.country)}` : ERASED;
    const buttons = (past ? [] : actionsOf(shown, () => this.#now)).map(actionButton);
    const barred = refusal("orders:write", "change orders");
    if (barred) for (const [button, note] of buttons.filter(([, note]) => note)) {
      allow(button, note, "", null);
      allow(button, this.barred, "", barred);
    }
    fill(this.header,
      h("div", { class: "order-title" },
        h("a", { class: "back", href: addressOf("orders") }, icon("left"), "Orders"),
        h("h2", { text: shown.number ? `Order #${shown.number}` : "Order" }),
        h("span", { class: "mono faint id", text: shown.id }),
        setPips(pips(shown), shown),
        h("button", { class: "icon-button print", type: "button", title: "Print", "aria-label": "Print the order", onclick: () => window.print() }, icon("print"))),
      h("div", { class: "order-sum" },
        h("b", { class: "order-total num", text: money(shown.total) }),
        badge(shown.status),
        labelled("payment", badge(shown.payment_status)),
        labelled("shipping", badge(shown.fulfillment_status)),
        h("span", { class: "faint" }, `${buyer} · placed `, when(shown.placed_at, true)),
        h("span", { class: "actions", data: { group: "actions" } }, buttons.map(([button]) => button))),
      buttons.map(([, note]) => note), this.barred);
    this.header.classList.toggle("past", past);
    const alarm = alarmOf(shown);
    fill(this.warning, shown.stuck.map((one) => callout("bad", `${stepWords(one.step)} is stuck`, one.why, "Retry it: nothing is done twice. Skip it only if you have settled it yourself.")),
      shown.alert ? callout("bad", "All steps are stopped until an operator has acted", alarm.words, alarm.todo) : null,
      shown.payment_status === "unknown" ? callout("wait", "The outcome of the payment is unknown", "The provider has not answered. kontor repeats the call under the same key, then looks the payment up by its reference, and reverses an attempt that it no longer waits for.") : null,
      shown.legal_hold ? callout("mute", "Legal hold: the buyer's personal data are kept, whoever asks for their erasure", shown.legal_hold) : null,
      shown.cancel_reason ? callout("mute", "Cancelled", causeWords(shown.cancel_reason)) : null);
  }

  #drawSlider(shown) {
    const { version } = this.#now;
    const seq = this.#seq ?? version;
    attr(this.range, "max", version);
    this.range.disabled = version < 2;
    if (Number(this.range.value) !== seq) this.range.value = seq;
    const event = this.#events[seq - 1];
    const words = event ? `${eventTitle(event.kind)}, event ${seq} of ${version}` : `event ${seq} of ${version}`;
    attr(this.range, "aria-valuetext", words);
    fill(this.moment, h("b", { text: this.#seq ? "Earlier state" : "Current state" }), ` · ${words} · `, h("span", { class: "num", text: event ? exact(event.at) : "" }));
    this.present.classList.toggle("unshown", !this.#seq);
    this.slider.classList.toggle("past", Boolean(this.#seq));
    if (this.marks.childElementCount !== this.#events.length) {
      fill(this.marks, this.#events.map((one, at) => h("i", { class: eventTone(one.kind), style: { left: `${version < 2 ? 50 : (100 * at) / (version - 1)}%` } })));
    }
    [...this.marks.children].forEach((mark, at) => mark.classList.toggle("later", at + 1 > seq));
  }

  /** Turns the timeline round. */
  #turn() {
    setNewestFirst(!newestFirst());
    this.held.ask(true);
    this.timeline.scrollTop = 0;
  }

  /** The events in their order; those that are new come in. */
  #fillTimeline() {
    let before = null;
    for (const event of this.#events) {
      if (!this.#items.has(event.seq)) {
        const item = timelineItem(event, before, () => this.look(event.seq));
        item.open = () => this.#explain(event);
        item.element.addEventListener("pointerenter", item.open, { once: true });
        this.#items.set(event.seq, item);
        if (this.#drawn.version) flash(item.element);
      }
      before = event;
    }
    const elements = [...this.#items.values()].map((one) => one.element);
    arrange(this.timeline, newestFirst() ? elements.reverse() : elements);
    text(this.turn, newestFirst() ? "Show oldest first" : "Show newest first");
  }

  #drawTimeline() {
    const { version } = this.#now;
    // What is added at the end moves nothing.
    this.held.ask(!newestFirst());
    const seq = this.#seq ?? version;
    for (const [at, { element, button }] of this.#items) {
      element.classList.toggle("later", at > seq);
      element.classList.toggle("current", at === seq);
      attr(button, "aria-current", at === seq ? "step" : null);
    }
    if (this.#seq && this.#items.get(seq)) {
      this.#items.get(seq).open();
      const box = this.#items.get(seq).element;
      if (this.timeline.scrollHeight > this.timeline.clientHeight) {
        this.timeline.scrollTop = box.offsetTop - this.timeline.clientHeight / 2;
      }
    }
  }

  close() {
    this.subscription.close();
    this.reread.cancel();
    this.#paint.cancel();
  }
}

/** The button of an action, or the link to its page; and why it cannot be pressed. */
function actionButton({ name, href, run, danger, primary, why }) {
  if (href) return [h("a", { class: "button", href, text: name }), null];
  const kind = danger ? "button danger" : primary ? "button primary" : "button";
  const [button, note] = [h("button", { class: kind, type: "button", text: `${name}…`, onclick: run }), whyNot()];
  allow(button, note, name, why);
  return [button, note];
}

const ORDER = "kontor.timeline";
let newest = null;

/** Whether timelines begin with the newest event, as somebody chose it last in this browser. */
function newestFirst() {
  try {
    newest ??= localStorage.getItem(ORDER) !== "oldest";
  } catch {
    newest = true;
  }
  return newest;
}

function setNewestFirst(on) {
  newest = on;
  try {
    localStorage.setItem(ORDER, on ? "newest" : "oldest");
  } catch {
    // Storage may be refused: then the choice lasts as long as the page.
  }
}

const labelled = (name, element) => h("span", { class: "labelled" }, h("span", { class: "faint", text: name }), element);

const callout = (tone, heading, words, todo) =>
  h("div", { class: `callout ${tone}` }, h("b", { text: heading }), h("span", { text: words }), todo ? h("span", { class: "todo", text: todo }) : null);

function timelineItem(event, before, look) {
  const { cause = {} } = event;
  const gap = before ? Date.parse(event.at) - Date.parse(before.at) : null;
  const reason = reasonOf(event);
  const diff = h("div", { class: "diff" });
  const button = h("button", { class: "event-title", type: "button", title: "Show the order after this event", onclick: look, text: eventTitle(event.kind) });
  const element = h("li", { class: `event ${eventTone(event.kind)}`, data: { row: "" } },
    h("div", { class: "event-head" }, button, h("span", { class: "num faint", text: `#${event.seq}` }),
      h("time", { class: "num faint end", datetime: event.at, title: exact(event.at), data: { paper: exact(event.at) }, text: clock(event.at) }),
      gap === null ? null : h("span", { class: "gap num", text: `+${millis(gap)}` })),
    h("p", { class: "event-who" }, h("span", { class: "who", title: isKontor(cause.by) ? null : cause.by, text: people(cause.by, cause.by_name) }),
      reason ? h("q", { text: reason }) : null),
    h("p", { class: "event-words", text: sentence(event) }), diff,
    h("details", { class: "raw" }, h("summary", { text: "The whole event" }),
      h("pre", { tabindex: "0", text: JSON.stringify({ kind: event.kind, pos: event.pos, cause, data: event.data }, null, 2) })));
  return { element, diff, button, explained: false };
}

function showChanges(element, list) {
  if (list.length === 0) return;
  const rows = list.map(({ what, before, after }) => h("div", {}, h("dt", { text: what }), h("dd", {},
    before === null ? null : [h("del", { text: before }), h("span", { class: "arrow", "aria-label": "became", role: "img", text: "→" })],
    after === null ? h("span", { class: "faint", text: "nothing" }) : h("ins", { text: after }))));
  if (rows.length <= 6) fill(element, h("dl", {}, rows));
  else fill(element, h("dl", {}, rows.slice(0, 5)), h("details", {}, h("summary", { text: `${several(rows.length - 5, "more change")}` }), h("dl", {}, rows.slice(5))));
}

/**
 * `correct(shipment)` is asked for when its tracking data are to be corrected; null for an earlier state.
 * `barred` is the note of a session that may not change orders.
 */
function mainPart(order, correct, barred) {
  const goods = goodsPart(order, correct);
  if (!barred.hidden) allow([...goods.querySelectorAll("button")], barred, "", barred.textContent);
  return [lines(order), h("div", { class: "two" }, moneyPart(order), goods)];
}

function lines(order) {
  const { totals } = order;
  const sum = (name, value, strong) => h("div", { class: strong ? "strong" : "" }, h("dt", { text: name }), h("dd", { class: "num", text: money(value) }));
  const rows = order.lines.map((line) => {
    const notes = [line.fulfilled ? `${line.fulfilled} shipped` : "", line.refunded ? `${line.refunded} refunded` : "", line.open ? whereOf(order, line.sku) : ""].filter(Boolean).join(", ");
    return h("tr", {},
      h("th", { scope: "row" }, line.name, h("span", { class: "faint", text: notes ? ` · ${notes}` : "" })),
      h("td", { class: "c-sku" }, h("a", { class: "mono", href: link(["stock", line.sku]), text: line.sku })),
      h("td", { class: "end num", text: line.quantity }),
      h("td", { class: "end num c-price", text: money(line.unit_price) }),
      h("td", { class: "end num", text: money(line.total) }));
  });
  const column = (name, kind = "") => h("th", { scope: "col", class: kind, text: name });
  return panel(several(order.lines.length, "line"), null, h("table", { class: "list lines" },
    h("thead", {}, h("tr", {}, column("Name"), column("SKU", "c-sku"), column("Units", "end"), column("Price", "end c-price"), column("Total", "end"))),
    h("tbody", {}, rows)), h("dl", { class: "sums" },
      sum("Items", totals.items), sum(`Delivery: ${order.delivery.name}`, totals.delivery),
      totals.tax.amount ? sum(totals.tax_included ? "Tax, included" : "Tax", totals.tax) : null,
      sum("Total", totals.total, true),
      order.refunded.amount ? sum("Refunded", order.refunded) : null,
      order.due.amount !== order.total.amount ? sum(order.due.amount ? "Total after refunds" : "Nothing is charged", order.due, true) : null));
}

/** A payment attempt; where the provider authorized another amount, both. */
function attempt(one, row) {
  const odd = one.authorized && one.authorized.amount !== one.amount.amount;
  const note = `${one.provider}${one.decline_code ? `: ${title(one.decline_code)}` : ""}`;
  const item = row(`Attempt ${one.attempt}`, one.payment ? h("span", { class: "mono block clip", title: one.payment, text: one.payment }) : null, odd ? one.authorized : one.amount, one.status, note);
  if (odd) item.lastElementChild.append(h("span", { class: "block odd", text: `of ${money(one.amount)} asked for` }));
  return item;
}

function moneyPart(order) {
  const row = (name, what, amount, state, note) => h("li", {}, h("span", {}, name, note ? h("span", { class: "faint", text: ` ${note}` }) : null, what ? h("span", { class: "faint block" }, what) : null), badge(state), h("span", { class: "num end", text: money(amount) }));
  const rows = [
    ...order.payments.map((one) => attempt(one, row)),
    ...order.captures.map((one) => row(`Capture ${one.id}`, "", one.amount, one.status)),
    ...order.refunds.map((one) => row(`Refund ${one.id}`, one.reason ? h("q", { text: causeWords(one.reason) }) : null, one.amount, one.status, one.restock ? "goods back on sale" : "")),
  ];
  return panel("Money", h("span", { class: "faint num", text: `${money(order.captured)} captured` }),
    rows.length ? h("ul", { class: "rows" }, rows) : h("p", { class: "hint pad", text: "No payment was requested yet." }));
}

function tracking(one) {
  const text = trackingWords(one);
  const href = trackingAddress(one);
  return h("span", { class: "mono block clip" }, href ? h("a", { class: "link", href, target: "_blank", rel: "noopener noreferrer", text }) : text);
}

function goodsPart(order, correct) {
  const name = (id) => order.lines.find((line) => line.id === id)?.name ?? id;
  const sent = order.fulfillments.map((one) => h("li", {}, h("span", {}, `Shipment ${one.id}`, one.status === "skipped" ? " " : null, one.status === "skipped" ? badge(one.status) : null,
    h("span", { class: "faint block", text: one.lines.map((line) => `${line.quantity} × ${name(line.line)}`).join(", ") }),
    one.tracking ? tracking(one.tracking) : null,
    correct ? h("button", { class: "quiet", type: "button", data: { focus: `tracking ${one.id}` }, text: one.tracking ? "Correct tracking…" : "Add tracking…", onclick: () => correct(one) }) : null), when(one.created_at, true)));
  const address = h("address", {}, [...addressLines(order.shipping_address), order.shipping_address?.phone].filter(Boolean).map((line) => h("span", { class: "block", text: line })));
  return panel("Shipments", null, sent.length ? h("ul", { class: "rows" }, sent) : h("p", { class: "hint pad", text: "Nothing was shipped yet." }),
    facts([["To", address], ["Delivery", order.delivery.name], order.reference ? ["Reference", order.reference] : null, order.number || order.phase.startsWith("cancel") ? null : ["Payment deadline", until(order.payment_deadline_at)]]));
}
