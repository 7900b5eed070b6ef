// One SKU: its levels, who holds what and for how long, and its history.

import { get } from "./api.js";
import { atMost, fill, h, keepFocus, text } from "./dom.js";
import { count, several } from "./format.js";
import { heldList } from "./held.js";
import { listKeys } from "./keys.js";
import { adjust, immovable, receive, receiveElsewhere, recount, transfer } from "./item-actions.js";
import { itemHistory } from "./item-history.js";
import { follows, live } from "./live.js";
import { isClosed, placeName, readNames } from "./location-names.js";
import { nameOrders, orderLink } from "./order-names.js";
import { allow, badge, failed, icon, loading, panel, until, whyNot } from "./parts.js";
import { may, refusal } from "./rights.js";
import { addressOf, go } from "./router.js";
import { bar, setBar } from "./stock.js";

const ROWS_MAX = 200;
/** How often the page looks what others have made of the locations, in milliseconds. */
const NAMES_EVERY = 5_000;

/** Shows the page. */
export function item(root, { parts }) {
  const sku = parts[1];
  let known = null;
  let name = "";
  let own = false;
  const body = h("div");
  const area = h("div", { class: "item-lists" });
  const claims = [claimsPart("Holds", holds, area), claimsPart("Allocations", allocations, area)];
  const history = itemHistory(sku, area);
  fill(area, h("div", { class: "two loose" }, claims.map((one) => one.element)), history.element);
  fill(root, loading(6));

  const read = atMost(300, async () => {
    try {
      const next = await get(`/v1/admin/stock/${encodeURIComponent(sku)}`);
      if (known && next.version < known.version) return;
      known = next;
      if (!body.isConnected) fill(root, body, area);
      draw(own);
      history.refresh(own);
      own = false;
    } catch (problem) {
      if (!known) fill(root, failed(problem, read), h("p", { class: "centered" }, h("a", { href: addressOf("stock"), text: "All stock" })));
    }
  });
  /** What somebody has done here is shown at once. */
  const done = () => {
    own = true;
    read();
  };
  const draw = (now) => {
    const giveBack = keepFocus(body);
    fill(body, head(known, name), levels(known, done));
    giveBack();
    for (const one of claims) one.show(known, now);
    nameOrders(root);
  };
  const subscription = live.subscribe("stock", { filter: { sku }, limit: 1 }, {
    changes: (list) => {
      if (list.some((change) => follows(known?.version ?? 0, change) !== "stale")) read();
    },
    snapshot: ([row]) => row && known && row.version > known.version && read(),
  });
  // A hold past its time is no longer listed, and no event says so at that moment.
  const timer = setInterval(() => {
    if (known?.holds?.some((one) => Date.parse(one.hold_until) < Date.now())) read();
    nameOrders(root);
  }, 2000);
  read();
  if (may("products:read")) get(`/v1/admin/products/${encodeURIComponent(sku)}`).then((product) => {
    name = product.name;
    if (known) draw();
  }, () => {});
  const rename = async () => {
    if (!await readNames() || !known) return;
    draw();
    history.rename();
  };
  rename();
  const renaming = setInterval(rename, NAMES_EVERY);
  return {
    heading: sku,
    keys: { ...listKeys(() => [...root.querySelectorAll("[data-row] a")]), n: () => [...claims, history].forEach((one) => one.release()), Escape: () => go(addressOf("stock")) },
    help: [["n", "Show what is new"]],
    reconnected: read,
    close() {
      subscription.close();
      clearInterval(timer);
      clearInterval(renaming);
      read.cancel();
      history.close();
    },
  };
}

function head(item, name) {
  const figure = (label, value, kind = "") => h("div", { class: `figure ${kind}` }, h("span", { text: label }), h("b", { class: "num", text: count(value) }));
  return h("header", { class: "item-head" },
    h("div", { class: "order-title" }, h("a", { class: "back", href: addressOf("stock") }, icon("left"), "Stock"),
      h("h2", { text: name || item.sku }), h("span", { class: "mono faint", text: item.sku })),
    h("div", { class: "figures six" }, figure("Sellable", item.sellable, item.sellable > 0 ? "" : "bad"), figure("Reserved", item.reserved), figure("Allocated", item.allocated), figure("On hand", item.on_hand), figure("Incoming", item.incoming), figure("Sold", item.sold)));
}

function levels(item, read) {
  const denied = whyNot();
  const why = refusal("stock:write", "change stock");
  const rows = item.levels.map((level) => {
    const line = bar();
    setBar(line, level);
    const button = (label, run) => h("button", { class: "button small", type: "button", text: label, "aria-label": `${label} at ${placeName(level.location)}`, onclick: run });
    const [move, note] = [button("Transfer", () => transfer(item, level, read)), whyNot()];
    const others = [button("Receive", () => receive(item, level, read)), button("Count", () => recount(item, level, read)), button("Adjust", () => adjust(item, level, read))];
    if (why) allow([...others, move], denied, "", why);
    else allow(move, note, "Transfer", immovable(item, level));
    return h("tr", {}, h("th", { scope: "row", class: "c-place", title: level.location }, placeName(level.location), isClosed(level.location) ? h("span", { class: "block" }, badge("not_for_sale")) : null), h("td", { class: "c-bar" }, line),
      ["sellable", "reserved", "allocated", "on_hand", "incoming", "sold"].map((name) => h("td", { class: `end num c-${name}`, text: count(level[name]) })),
      h("td", { class: "end actions" }, others, move, note));
  });
  const column = (name, kind = "end") => h("th", { scope: "col", class: kind, text: name });
  // Units can come to a location that has none yet.
  const first = h("button", { class: "button small", type: "button", text: "Receive elsewhere", title: "Receive units at a location that has none yet", onclick: () => receiveElsewhere(item, read) });
  if (why) allow([first], denied, "", why);
  return panel("Levels", [denied, first, h("span", { class: "faint num", text: `version ${item.version}` })], h("table", { class: "list levels" },
    h("thead", {}, h("tr", {}, column("Location", ""), column("Breakdown", "c-bar"), column("Sellable", "end c-sellable"), column("Reserved", "end c-reserved"), column("Allocated", "end c-allocated"), column("On hand", "end c-on_hand"), column("Incoming", "end c-incoming"), column("Sold", "end c-sold"), h("th", { scope: "col" }, h("span", { class: "unseen", text: "Changes" })))),
    h("tbody", {}, rows)));
}

/** A panel of what orders have of the SKU; `of(item)` are its `{rows, aside, empty}`. */
function claimsPart(heading, of, area) {
  const body = h("div");
  const aside = h("span", { class: "faint" });
  let item = null;
  const list = heldList(body, {
    area,
    key: () => JSON.stringify(of(item).list),
    draw() {
      const giveBack = keepFocus(body);
      const { list, row, words, empty } = of(item);
      text(aside, words);
      fill(body, list.length ? h("ul", { class: "rows tall", tabindex: "0", "aria-label": heading }, list.slice(0, ROWS_MAX).map(row)) : h("p", { class: "hint pad", text: empty }));
      giveBack();
    },
  });
  return {
    element: panel(heading, [list.pill, aside], body),
    show(next, now) {
      item = next;
      list.ask(now);
    },
    release: () => list.ask(true),
  };
}

const holds = (item) => ({
  list: item.holds ?? [],
  words: "with the time that is left to pay",
  empty: "No order has reserved units. A hold lasts 15 minutes, or until its order is paid.",
  row: (hold) => h("li", { data: { row: "" } }, orderLink(hold.order),
    h("span", { class: "faint", text: hold.generation > 1 ? `try ${hold.generation}` : "" }),
    h("span", { class: "num", text: several(hold.quantity, "unit") }),
    h("span", { class: "clock num end" }, until(hold.hold_until))),
});

const allocations = (item) => {
  const list = [...(item.allocations ?? [])].sort((one, other) => (one.order < other.order ? 1 : -1));
  return {
    list,
    words: list.length > ROWS_MAX ? `${ROWS_MAX} of ${count(list.length)}` : several(list.length, "order"),
    empty: "No order has allocated units.",
    row: (one) => h("li", { data: { row: "" } }, orderLink(one.order), h("span", { class: "num end", text: several(one.quantity, "unit") })),
  };
};
