// The history of one SKU's stock: who changed it, when, why and by how many units.

import { get, path } from "./api.js";
import { attr, fill, h, keepFocus } from "./dom.js";
import { count, people, tail, title, words } from "./format.js";
import { failed, panel, when } from "./parts.js";
import { link } from "./router.js";

const PAGE = 20;
/** What is shown, by the kinds of events that are asked for. */
const KINDS = { All: "", "Changed by hand": "received,expected,adjusted,transferred" };
const TITLES = {
  expected: "Announced", committed: "Allocated", lapsed: "Hold expired", extended: "Hold extended",
};

/** The panel of a SKU's history; `refresh()` after each change of its stock, `close()` at the end. */
export function itemHistory(sku) {
  const list = h("ol", { class: "rows stock-history" });
  const state = h("div");
  const more = h("button", { class: "button small", type: "button", text: "Show more", hidden: true, onclick: () => read(cursor) });
  const chips = Object.keys(KINDS).map((name) => h("button", { class: "chip", type: "button", text: name, onclick: () => choose(name) }));
  const element = panel("History", h("span", { class: "chips", role: "group", "aria-label": "Show" }, chips), list, state, h("div", { class: "list-end" }, more));
  let [shown, cursor, events, running, again] = ["All", null, [], false, false];
  let doing = new AbortController();

  const draw = () => {
    const giveBack = keepFocus(element);
    for (const chip of chips) attr(chip, "aria-pressed", String(chip.textContent === shown));
    fill(list, events.map(row));
    list.hidden = events.length === 0;
    fill(state, events.length ? null : h("p", { class: "hint pad", text: cursor ? "None of the latest changes." : "Nothing has changed this stock yet." }));
    more.hidden = !cursor;
    giveBack();
  };

  /** Reads the first page, or what comes after a cursor. */
  async function read(after = null) {
    if (running) return void (again = true);
    running = true;
    try {
      const page = await get(path(`/v1/admin/stock/${encodeURIComponent(sku)}/events`, { kind: KINDS[shown], limit: PAGE, after }), { signal: doing.signal });
      const last = page.data.at(-1)?.seq ?? Infinity;
      const older = events.filter((one) => one.seq < last);
      // What was read before stays, if nothing between is missing.
      const joins = !after && events.some((one) => one.seq >= last);
      if (after) events = [...events, ...page.data];
      else events = joins ? [...page.data, ...older] : page.data;
      if (!joins || older.length === 0) cursor = page.next_cursor;
      draw();
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
    [shown, events, cursor, running, again] = [name, [], null, false, false];
    draw();
    read();
  }

  draw();
  fill(state);
  return { element, refresh: () => read(), close: () => doing.abort() };
}

function row(event) {
  // A count is an adjustment, whose reason the server writes.
  const counted = event.kind === "adjusted" && event.reason === "set";
  return h("li", { data: { row: "" } },
    h("span", { class: "what" }, h("b", { text: counted ? "Counted" : TITLES[event.kind] ?? title(event.kind) }), event.reason && !counted ? h("q", { text: event.reason }) : null),
    h("span", { class: "moved num" }, event.changes.map(moved)),
    h("span", { class: "who", title: event.by, text: people(event.by, event.by_name) }),
    event.order ? h("a", { class: "mono", href: link(["orders", event.order]), title: event.order, data: { focus: `${event.seq} ${event.order}` }, text: tail(event.order) }) : h("span"),
    h("span", { class: "faint end" }, when(event.at, true)));
}

/** By how many units a level changed: `main: on hand −2, allocated −2`. */
function moved({ location, ...levels }) {
  const signed = (value) => (value > 0 ? `+${count(value)}` : count(value).replace("-", "−"));
  const parts = Object.entries(levels).filter(([, value]) => value).map(([name, value]) => `${words(name)} ${signed(value)}`);
  return h("span", { class: "block", text: `${location}: ${parts.join(", ")}` });
}
