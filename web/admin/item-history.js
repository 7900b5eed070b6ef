// The history of one SKU's stock: who changed it, when, why and by how many units.

import { get, path } from "./api.js";
import { attr, fill, h, keepFocus } from "./dom.js";
import { isKontor, people, signed, title, words } from "./format.js";
import { placeName } from "./location-names.js";
import { heldList } from "./held.js";
import { nameOrders, orderLink } from "./order-names.js";
import { failed, panel, when } from "./parts.js";

const PAGE = 20;
/** What is shown, by the kinds of events that are asked for. */
const KINDS = { All: "", "Changed by hand": "received,expected,adjusted,transferred" };
/** What the events of stock are called, by their kinds. */
export const TITLES = {
  reserved: "Reserved", extended: "Hold extended", yielded: "Hold open to others", lapsed: "Hold expired", committed: "Allocated", released: "Released",
  shipped: "Shipped", restocked: "Back on sale", written_off: "Written off",
  received: "Received", expected: "Announced", adjusted: "Adjusted", transferred: "Transferred",
};
/** For what an order changes stock, where nobody in particular did it. */
export const CAUSES = {
  reserved: "checkout", extended: "checkout", yielded: "declined payment", lapsed: "end of the hold", committed: "paid order", released: "cancelled order",
  shipped: "shipment", restocked: "refund", written_off: "refund",
};

/** The panel of a SKU's history; `refresh(now)` after each change of its stock, at once if it is the reader's own, `rename()` when locations
 * are called otherwise, `close()` at the end. */
export function itemHistory(sku, area) {
  const list = h("ol", { class: "rows stock-history" });
  const state = h("div");
  const more = h("button", { class: "button small", type: "button", text: "Show more", hidden: true, onclick: () => read(cursor) });
  const chips = Object.keys(KINDS).map((name) => h("button", { class: "chip", type: "button", text: name, onclick: () => choose(name) }));
  const held = heldList(list, { area, key: () => JSON.stringify([shown, loaded, cursor, events.map((one) => one.seq)]), draw: () => draw(), news: () => (fresh > 0 ? `${fresh} new` : "Updated") });
  const element = panel("History", [held.pill, h("span", { class: "chips", role: "group", "aria-label": "Show" }, chips)], list, state, h("div", { class: "list-end" }, more));
  let [shown, loaded, cursor, events, running, again, fresh] = ["All", false, null, [], false, false, 0];
  let doing = new AbortController();

  const draw = () => {
    fresh = 0;
    const giveBack = keepFocus(element);
    for (const chip of chips) attr(chip, "aria-pressed", String(chip.textContent === shown));
    fill(list, events.map(row));
    list.hidden = events.length === 0;
    fill(state, events.length || !loaded ? null : h("p", { class: "hint pad", text: cursor ? "None of the latest changes." : "Nothing has changed this stock yet." }));
    more.hidden = !cursor;
    giveBack();
    nameOrders(list);
  };

  /** Reads the first page, or what comes after a cursor. */
  async function read(after = null, now = false) {
    if (running) return void (again = true);
    running = true;
    try {
      const page = await get(path(`/v1/admin/stock/${encodeURIComponent(sku)}/events`, { kind: KINDS[shown], limit: PAGE, after }), { signal: doing.signal });
      if (!after) fresh += page.data.filter((one) => one.seq > (events[0]?.seq ?? 0)).length;
      const last = page.data.at(-1)?.seq ?? Infinity;
      const older = events.filter((one) => one.seq < last);
      // What was read before stays, if nothing between is missing.
      const joins = !after && events.some((one) => one.seq >= last);
      if (after) events = [...events, ...page.data];
      else events = joins ? [...page.data, ...older] : page.data;
      if (!joins || older.length === 0) cursor = page.next_cursor;
      // The first page is shown at once: a pointer that rests there is not yet at anything.
      const first = !loaded;
      loaded = true;
      held.ask(now || first || after !== null);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (events.length === 0) fill(state, failed(problem, () => read()));
    } finally {
      running = false;
    }
    if (again) {
      again = false;
      read();
    }
  }

  function choose(name) {
    if (name === shown) return;
    doing.abort();
    doing = new AbortController();
    [shown, loaded, events, cursor, running, again] = [name, false, [], null, false, false];
    held.ask(true);
    read(null, true);
  }

  held.ask();
  return { element, refresh: (now) => read(null, now), release: () => held.ask(true), rename: draw, close: () => doing.abort() };
}

function row(event) {
  return h("li", { data: { row: "" } },
    h("span", { class: "what" }, h("b", { text: event.counted ? "Counted" : TITLES[event.kind] ?? title(event.kind) }), event.reason ? h("q", { text: event.reason }) : null),
    h("span", { class: "moved num" }, event.changes.length ? event.changes.map(moved) : h("span", { class: "faint", text: "no units moved" })),
    who(event),
    event.order ? orderLink(event.order, `${event.seq} ${event.order}`) : h("span"),
    h("span", { class: "faint end" }, when(event.at, true)));
}

/** Who changed it; for kontor itself, what it did it for: the order stands beside it. */
function who({ kind, by, by_name, order }) {
  const cause = order && isKontor(by) ? CAUSES[kind] : null;
  return h("span", { class: "who", title: cause ? "kontor, for the order" : by, text: cause ?? people(by, by_name) });
}

/** By how many units a level changed: `main: on hand −2, allocated −2`. */
function moved({ location, ...levels }) {
  const parts = Object.entries(levels).filter(([, value]) => value).map(([name, value]) => `${words(name)} ${signed(value)}`);
  return h("span", { class: "block", title: location, text: `${placeName(location)}: ${parts.join(", ")}` });
}
