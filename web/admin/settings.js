// Settings that change while the shop runs: what holds, who changed it and why, and changing it.

import { alarms } from "./alarms.js";
import { get, path as query, send } from "./api.js";
import { ask, look, reason, sentence } from "./dialog.js";
import { fill, h, keepFocus, sayHere } from "./dom.js";
import { count, people, several } from "./format.js";
import { listKeys } from "./keys.js";
import { allow, badge, empty, failed, loading, panel, when, whyNot } from "./parts.js";
import { refusal } from "./rights.js";

/** The groups of settings that limit clients, where 0 is no limit. */
const LIMITS = ["rates.", "holds.", "challenge."];
const GROUPS = [
  ["Shop", "what buyers and importers may do", (name) => name === "checkout" || name === "imports" || name.startsWith("providers.")],
  ["Limits", "for one client, at all nodes together", (name) => LIMITS.some((group) => name.startsWith(group))],
  ["Work", "intervals and caches", () => true],
];
/** What settings are called. */
const NAMES = {
  checkout: "Checkout", imports: "Imports of products", "products.cached_secs": "Cache of the product list", "projections.paused": "Pause of the lists of orders and stock",
  "rates.browse": "Limit for browsing", "rates.cart": "Limit for carts", "rates.checkout": "Limit for checkouts", "rates.operate": "Limit for operators",
  "rates.guest_cart": "Limit for carts of guests", "rates.guest_checkout": "Limit for checkouts of guests",
  "holds.cart": "Units in a guest's cart", "holds.email": "Unpaid units of a guest's email address",
  "holds.address": "Unpaid units from a guest's IP address", "holds.network": "Unpaid units from a network of guests",
  "challenge.sku_checkouts": "Checkouts of one SKU before challenges", "challenge.network_checkouts": "Checkouts from a network before challenges",
  "sweep.period_secs": "Comparison with payment providers",
};
const HISTORY_MAX = 20;
/** How often the page looks what others have changed. */
const EVERY = 5_000;

/** Shows the page. */
export function settings(root) {
  let known = null;
  let closed = false;
  fill(root, loading(8));

  const read = async () => {
    try {
      const { data } = await get("/v1/admin/settings");
      if (closed || JSON.stringify(data) === JSON.stringify(known)) return;
      known = data;
      draw();
    } catch (problem) {
      if (!known && !closed) fill(root, failed(problem, read));
    }
  };
  const draw = () => {
    const giveBack = keepFocus(root);
    const left = [...known];
    const note = whyNot();
    fill(root, note, GROUPS.map(([heading, words, mine]) => {
      const own = left.filter((one) => mine(one.name));
      for (const one of own) left.splice(left.indexOf(one), 1);
      return own.length ? panel(heading, h("span", { class: "faint wide-only", text: words }),
        h("ul", { class: "rows settings-rows" }, own.map((one) => row(one, read)))) : null;
    }));
    allow([...root.querySelectorAll(".change")], note, "", refusal("settings:write", "change settings"));
    giveBack();
  };
  const timer = setInterval(read, EVERY);
  read();
  return {
    heading: "Settings",
    keys: listKeys(() => [...root.querySelectorAll(".settings-rows button.change")]),
    reconnected: read,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}

/** What a setting is called; one that has no words yet by its own name. */
export const settingName = (name) => NAMES[name] ?? (name.startsWith("providers.") ? `Payments by ${name.slice("providers.".length)}` : name);

/** A value as people read it. */
function shown(one, value) {
  if (value === null || value === undefined) return "its default";
  if (typeof value === "boolean") return value ? "on" : "off";
  if (value === 0) return LIMITS.some((group) => one.name.startsWith(group)) ? "no limit" : "never";
  if (one.name.startsWith("rates.") || one.name.startsWith("challenge.")) return `${count(value)} a minute`;
  return one.name.endsWith("_secs") ? several(value, "second") : count(value);
}

function row(one, read) {
  const differs = one.value !== one.default;
  const value = one.kind === "switch" ? state(one.value, differs) : h("span", { class: "num strong", text: shown(one, one.value) });
  const id = one.name.replaceAll(".", "-");
  return h("li", { data: { row: "" } },
    h("span", { class: "why" },
      h("span", {}, h("span", { class: "name", text: settingName(one.name) }), " ", h("span", { class: "mono faint", text: one.name })),
      h("span", { class: "faint", text: one.description }),
      one.version === 0 ? null : h("span", { class: "last" }, h("span", { class: "who", title: one.changed_by, text: people(one.changed_by, one.changed_by_name) }), " ", when(one.changed_at, true), ": ", h("q", { text: one.reason }))),
    h("span", { class: "value" }, value, differs ? h("span", { class: "faint block", text: `default: ${shown(one, one.default)}` }) : null),
    h("span", { class: "actions" },
      one.version === 0 ? h("span", { class: "faint", text: "Never changed" }) : h("button", { class: "button small", type: "button", id: `${id}-history`, text: "History", "aria-label": `History of ${settingName(one.name)}`, onclick: () => history(one) }),
      h("button", { class: "button small change", type: "button", id: `${id}-change`, text: verb(one), "aria-label": `${verb(one)}: ${settingName(one.name)}`, onclick: () => change(one, read) })));
}

/** On is green; off is told apart where somebody has switched it off. */
function state(on, differs) {
  const element = badge(on ? "on" : "off");
  if (differs) element.classList.replace(on ? "ok" : "mute", "wait");
  return element;
}

const verb = (one) => (one.kind !== "switch" ? "Change" : one.value ? "Switch off" : "Switch on");

function change(one, read) {
  const number = {
    name: "value",
    label: one.description.split(":")[0].replace(/; .*/, ""),
    inputmode: "numeric",
    required: true,
    value: one.value,
    why: "must be a whole number",
    hint: `A whole number from ${count(one.minimum ?? 0)} to ${count(one.maximum ?? 0)}; its default is ${count(one.default)}.`,
    check(typed) {
      const right = /^\d{1,15}$/.test(typed) && Number(typed) >= (one.minimum ?? 0) && Number(typed) <= (one.maximum ?? Infinity);
      return right ? null : `must be a whole number from ${count(one.minimum ?? 0)} to ${count(one.maximum ?? 0)}`;
    },
  };
  const at = `/v1/admin/settings/${encodeURIComponent(one.name)}`;
  ask({
    about: {
      now: one,
      read: () => get(at),
      changes: (before, after) => [`${people(after.changed_by, after.changed_by_name)} changed it from ${shown(one, before.value)} to ${shown(one, after.value)}: ${after.reason}`],
      follow(look) {
        const timer = setInterval(look, EVERY);
        return { close: () => clearInterval(timer) };
      },
    },
    heading: `${verb(one)}: ${settingName(one.name)}`,
    intro: `${one.description}. It takes effect on every node within a second.`,
    fields: [...(one.kind === "switch" ? [] : [number]), reason("Kept in the setting's history with your name.")],
    verb: verb(one),
    danger: one.kind === "switch" && one.value === one.default,
    done: `${settingName(one.name)} was changed`,
    act: async (values, key, now) => {
      const body = { value: one.kind === "switch" ? !one.value : Number(values.value), reason: values.reason };
      await send("PUT", at, body, { key, version: now.version });
      alarms.refresh();
      await read();
    },
  });
}

async function history(one) {
  const tell = sayHere();
  const { body, close } = look(`History of ${settingName(one.name)}`);
  fill(body, loading(3));
  try {
    const page = await get(query(`/v1/admin/settings/${encodeURIComponent(one.name)}/history`, { limit: HISTORY_MAX }));
    fill(body, page.data.length === 0 ? empty("This setting was never changed") : h("div", { class: "timeline" }, page.data.map((change) => entry(one, change))),
      page.next_cursor ? h("p", { class: "hint", text: `The last ${HISTORY_MAX} of ${count(one.version)} changes.` }) : null);
  } catch (problem) {
    close();
    tell(sentence(problem), true);
  }
}

function entry(one, change) {
  return h("div", { class: "event" },
    h("div", { class: "event-head" }, h("span", { class: "event-title" }, h("del", { text: shown(one, change.before) }), " → ", h("ins", { text: shown(one, change.after) })), when(change.changed_at)),
    h("div", { class: "event-who" }, h("span", { class: "who", title: change.changed_by, text: people(change.changed_by, change.changed_by_name) }), h("q", { text: change.reason })),
    h("div", { class: "faint mono", text: change.request_id }));
}
