// What is done to the stock of a SKU at a location: receive, count, adjust and transfer, each in a dialog
// that shows what comes of it.

import { get, send } from "./api.js";
import { ask, complaint } from "./dialog.js";
import { atMost, h, say } from "./dom.js";
import { count, several, signed, whole, words } from "./format.js";
import { live } from "./live.js";
import { placeName, places, readNames } from "./location-names.js";

const place = (item, ...more) => `/v1/admin/stock/${[item.sku, ...more].map(encodeURIComponent).join("/")}`;

/** The stock of a SKU as what a dialog is about: other changes of its levels are said in the dialog. */
const about = (item) => ({
  now: item,
  read: () => get(place(item)),
  changes(before, after) {
    const old = new Map(before.levels.map((level) => [level.location, level]));
    const list = after.levels.flatMap((level) => ["on_hand", "reserved", "allocated", "incoming"]
      .filter((name) => (old.get(level.location)?.[name] ?? 0) !== level[name])
      .map((name) => `${placeName(level.location)}: ${words(name)} ${count(old.get(level.location)?.[name] ?? 0)} → ${count(level[name])}`));
    return list.length ? list : ["Its levels are as they were."];
  },
  follow(look) {
    const soon = atMost(300, look);
    const subscription = live.subscribe("stock", { filter: { sku: item.sku }, limit: 1 }, {
      snapshot: ([row]) => row?.version > item.version && soon(),
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

const levelOf = (item, location) => item.levels.find((level) => level.location === location) ?? { on_hand: 0, reserved: 0, allocated: 0, incoming: 0, sellable: 0 };
/** The most units that a location has of a SKU. */
const UNITS_MAX = 1_000_000_000;
const MAY_SAY = { name: "reason", label: "Reason", type: "reason", hint: "Kept in the stock's history with your name." };
const REASON = { ...MAY_SAY, required: true, why: "say why, in a few words" };
/** A reason as the server takes it: none is left out. */
const because = (reason) => (reason ? { reason } : {});
/** What can be done about units that orders have, and that are missing. */
const WAY_ON = "cancel orders, or refund their missing units without putting them back on sale";

/** A field for a number of units, at least `least`. */
const unitsField = (label, least, more = {}) => ({
  name: "quantity", label, inputmode: "numeric", required: true, ...more,
  check: (typed) => (whole(typed) >= least && whole(typed) <= UNITS_MAX ? null : `must be a whole number from ${count(least)} to ${count(UNITS_MAX)}`),
});

/** What a level comes to, above the button: with nothing typed, what it is. */
const after = (now, location, change) => {
  const { on_hand } = levelOf(now, location);
  return [h("span", { text: "On hand after this" }), h("b", { class: "num", text: count(on_hand + change) }), h("span", { class: "faint num", text: `${count(on_hand)} now` })];
};
const tooMany = (units) => (units > UNITS_MAX ? `there can be at most ${count(UNITS_MAX)} units on hand` : null);
/** What orders have of a level. */
const promised = ({ reserved, allocated }) => reserved + allocated;

/** Why fewer units cannot have been counted, and what can be done. */
const tooFew = (level) => `must be at least ${several(promised(level), "unit")}, of which ${count(level.reserved)} are reserved and ${count(level.allocated)} allocated; to count fewer, ${WAY_ON}`;

/** Takes in units that have arrived. */
export function receive(item, { location, incoming }, read) {
  ask({
    heading: `Receive ${item.sku} at ${placeName(location)}`, verb: "Receive", done: "The units are in stock", about: about(item),
    intro: incoming > 0 ? "Units that were announced are not incoming any more once they are received." : "The units are added to what is on hand.",
    fields: [
      unitsField("Units", 1, { most: (typed, now) => tooMany(levelOf(now, location).on_hand + whole(typed)) }),
      ...(incoming > 0 ? [{ name: "from_incoming", label: "These units were announced as incoming", type: "checkbox", value: true }] : []),
      MAY_SAY,
    ],
    sum: ({ quantity }, now) => after(now, location, whole(quantity) || 0),
    act: async ({ quantity, reason, from_incoming = false }, key) => {
      await send("POST", place(item, location, "receipts"), { quantity: whole(quantity), from_incoming, ...because(reason) }, { key });
      read();
    },
  });
}

/** Takes in the first units of a SKU at a location. */
export async function receiveElsewhere(item, read) {
  await readNames();
  const others = places().filter((id) => !item.levels.some((level) => level.location === id));
  if (others.length === 0) return say("The SKU has a level at each location: receive there", true);
  ask({
    heading: `Receive ${item.sku} at another location`, verb: "Receive", done: "The units are in stock", about: about(item),
    intro: "The SKU has no units there yet.",
    fields: [
      { name: "location", label: "Location", type: "select", required: true, options: others.map((id) => [id, placeName(id) === id ? id : `${placeName(id)} (${id})`]) },
      unitsField("Units", 1), MAY_SAY,
    ],
    act: async ({ location, quantity, reason }, key) => {
      await send("POST", place(item, location, "receipts"), { quantity: whole(quantity), from_incoming: false, ...because(reason) }, { key });
      read();
    },
  });
}

/** Somebody has counted: the page works out the difference, and writes it as what it is. */
export function recount(item, { location }, read) {
  const difference = (typed, now) => whole(typed) - levelOf(now, location).on_hand;
  let found = 0;
  // A count is of the shelf as it was when it was typed: what is shipped after that is not counted.
  let counted = { text: null, on_hand: 0 };
  ask({
    heading: `Count ${item.sku} at ${placeName(location)}`, verb: "Save the count", about: about(item),
    done: () => (found ? `The stock was corrected by ${signed(found)}` : "The count agrees: nothing was changed"),
    intro: "Count all that is there, reserved and allocated units included.",
    fields: [unitsField("Counted units", 0, {
      also: ["on_hand"], codes: ["stock_committed"],
      most: (typed, now) => (whole(typed) < promised(levelOf(now, location)) ? tooFew(levelOf(now, location)) : null),
    }), MAY_SAY],
    sum: ({ quantity }, now) => {
      if (quantity !== counted.text) counted = { text: quantity, on_hand: levelOf(now, location).on_hand };
      return [h("span", { text: "Difference" }), h("b", { class: "num", text: quantity ? signed(difference(quantity, now)) : "–" }),
        h("span", { class: "faint num", text: `${count(levelOf(now, location).on_hand)} should be on hand` })];
    },
    async act({ quantity, reason }, key, now) {
      const { on_hand } = counted.text === quantity ? counted : levelOf(now, location);
      counted.text = null;
      found = whole(quantity) - on_hand;
      if (found || on_hand !== levelOf(now, location).on_hand) {
        await send("PUT", place(item, location), { on_hand: whole(quantity), change_from: on_hand, ...because(reason) }, { key }).catch((problem) => {
          throw problem.code === "stock_changed" ? complaint("quantity", "other units are on hand than when this was typed: check the count, and submit again") : problem;
        });
      }
      read();
    },
  });
}

/** Adds or removes units, for a reason. */
export function adjust(item, { location }, read) {
  ask({
    heading: `Adjust ${item.sku} at ${placeName(location)}`, verb: "Adjust", done: "The stock was adjusted", about: about(item),
    intro: "What is reserved or allocated cannot be removed.",
    fields: [{
      name: "quantity", label: "Units to add, or negative to remove", required: true, codes: ["stock_committed"],
      check: (typed) => (whole(typed) && Math.abs(whole(typed)) <= UNITS_MAX ? null : "must be a whole number of units, such as 5 or −2"),
      most(typed, now) {
        const level = levelOf(now, location);
        return level.on_hand + whole(typed) < promised(level) ? `at most ${several(level.on_hand - promised(level), "unit")} can be removed; to remove more, ${WAY_ON}` : tooMany(level.on_hand + whole(typed));
      },
    }, REASON],
    sum: ({ quantity }, now) => after(now, location, whole(quantity) || 0),
    async act({ quantity, reason }, key) {
      await send("POST", place(item, location, "adjustments"), { quantity: whole(quantity), reason }, { key });
      read();
    },
  });
}

/** The locations that units can be moved to. */
const othersOf = (item, location) => [...new Set([...places(), ...item.levels.map((level) => level.location)])].filter((other) => other !== location);

/** Why no units of a level can be moved, if so. */
export function immovable(item, level) {
  if (level.sellable <= 0) return level.on_hand > 0 ? "all units are reserved or allocated." : "there is no unit to be moved.";
  return othersOf(item, level.location).length ? null : "there is no other location.";
}

/** Moves units to another location of the shop. */
export async function transfer(item, { location }, read) {
  await readNames();
  const others = othersOf(item, location);
  if (others.length === 0) return say("There is no other location", true);
  ask({
    heading: `Transfer ${item.sku} from ${placeName(location)}`, verb: "Transfer", done: "The units were transferred", about: about(item),
    intro: "What is reserved or allocated stays where it is.",
    fields: [
      { name: "to", label: "To location", type: "select", required: true, options: others.map((id) => [id, placeName(id) === id ? id : `${placeName(id)} (${id})`]) },
      unitsField("Units", 1, {
        most: (typed, now) => (whole(typed) > levelOf(now, location).sellable ? `only ${several(levelOf(now, location).sellable, "unit")} can be moved` : null),
        codes: ["stock_committed", "out_of_stock"],
      }),
      MAY_SAY,
    ],
    sum: ({ quantity, to }, now) => [
      h("span", { text: "On hand after this" }),
      h("span", { class: "num", text: `${placeName(location)}: ${count(levelOf(now, location).on_hand - (whole(quantity) || 0))}` }),
      h("span", { class: "num", text: `${placeName(to)}: ${count(levelOf(now, to).on_hand + (whole(quantity) || 0))}` })],
    async act({ to, quantity, reason }, key) {
      await send("POST", place(item, "transfers"), { from: location, to, quantity: whole(quantity), ...because(reason) }, { key });
      read();
    },
  });
}
