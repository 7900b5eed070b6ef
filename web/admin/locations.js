// The locations of the shop, where stock is: listed, made, described, closed for sale and deleted.

import { addressLines, countryCode } from "./address.js";
import { get, path, send } from "./api.js";
import { ask } from "./dialog.js";
import { fill, h, keepFocus } from "./dom.js";
import { several } from "./format.js";
import { listKeys } from "./keys.js";
import { allow, badge, empty, failed, icon, loading, whyNot } from "./parts.js";
import { may, refusal } from "./rights.js";
import { addressOf, go } from "./router.js";

/** How often the page looks what others have changed. */
const EVERY = 5_000;
const PAGE = 200;

/** Shows the page. */
export function locations(root) {
  let known = null;
  let closed = false;
  const body = h("div", { class: "panel flush" });
  const note = h("span", { class: "faint grow", role: "status" });
  const make = h("button", { class: "button primary", type: "button", text: "New location…", onclick: () => known && describe(null, known, read) });
  const barred = whyNot();
  const restrict = () => allow([make, ...body.querySelectorAll("button")], barred, "", refusal("stock:write", "change locations"));
  fill(root, h("div", { class: "toolbar" }, h("a", { class: "back", href: addressOf("stock") }, icon("left"), "Stock"), h("h2", { text: "Locations" }), note, make), barred, body);
  fill(body, loading(4));
  restrict();

  const read = async () => {
    try {
      const all = [];
      let after = null;
      do {
        const page = await get(path("/v1/admin/locations", { limit: PAGE, after }));
        all.push(...page.data);
        after = page.next_cursor;
      } while (after);
      if (closed || JSON.stringify(all) === JSON.stringify(known)) return;
      known = all;
      const giveBack = keepFocus(root);
      note.textContent = several(all.length, "location");
      fill(body, all.length ? table(all, read) : empty("No locations yet", "Stock needs a place: add the first location."));
      if (!may("stock:write")) restrict();
      giveBack();
    } catch (problem) {
      if (!known && !closed) fill(body, failed(problem, read));
    }
  };
  const timer = setInterval(read, EVERY);
  read();
  return {
    heading: "Locations",
    keys: { ...listKeys(() => [...body.querySelectorAll("[data-row] .first")]), Escape: () => go(addressOf("stock")) },
    reconnected: read,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}

/** An address in one line. */
const inLine = (to) => (to ? [...addressLines(to), to.phone].filter(Boolean).join(", ") : "");

function table(all, read) {
  const column = (name, kind = "") => h("th", { scope: "col", class: kind, text: name });
  const rows = all.map((one) => {
    const button = (label, run, kind = "") => h("button", { class: `button small ${kind}`, type: "button", text: label, "aria-label": `${label}: ${one.name}`, data: { focus: `${label} ${one.id}` }, onclick: run });
    const [del, note] = [button("Delete", () => remove(one, read), "danger"), whyNot()];
    allow(del, note, "Delete", one.has_units ? "it has units, or units on their way: move them or write them off first." : null);
    return h("tr", { data: { row: "" } },
      h("th", { scope: "row", class: "c-name" }, h("b", { text: one.name })),
      h("td", { class: "mono c-id", text: one.id }),
      h("td", { class: "c-address", text: inLine(one.address) || "–" }),
      h("td", { class: "c-sale" }, one.for_sale ? badge("for_sale") : badge("not_for_sale")),
      h("td", { class: "end actions" }, button("Edit", () => describe(one, all, read), "first"),
        button(one.for_sale ? "Close for sale" : "Open for sale", () => sell(one, read)),
        del, note));
  });
  return h("table", { class: "list locations-table" }, h("caption", { class: "unseen", text: "Locations" }),
    h("thead", {}, h("tr", {}, column("Name", "c-name"), column("ID", "c-id"), column("Address", "c-address"), column("Sale", "c-sale"), h("th", { scope: "col" }, h("span", { class: "unseen", text: "Changes" })))),
    h("tbody", {}, rows));
}

const place = (id) => `/v1/admin/locations/${encodeURIComponent(id)}`;

/** A location as what a dialog is about. */
const about = (one) => ({
  now: one,
  read: () => get(place(one.id)),
  changes: (before, after) => [
    before.name === after.name ? null : `Name: ${before.name} → ${after.name}`,
    before.for_sale === after.for_sale ? null : after.for_sale ? "It was opened for sale." : "It was closed for sale.",
    inLine(before.address) === inLine(after.address) ? null : `Address: ${inLine(after.address) || "none"}`,
  ].filter(Boolean),
  follow(look) {
    const timer = setInterval(look, EVERY);
    return { close: () => clearInterval(timer) };
  },
});

/** The parts of an address: their names and labels. */
const PARTS = [["company", "Company"], ["line1", "Street and number"], ["line2", "Second line"], ["postal_code", "Postal code"], ["city", "City"], ["region", "Region"], ["country", "Country"], ["phone", "Phone"]];

/** The address that was entered; null if none of its parts was. What it lacks, the server says. */
function addressIn(values) {
  const given = PARTS.map(([name]) => name).filter((name) => values[name]);
  if (given.length === 0 && !values.addressee) return null;
  return { name: values.addressee || values.name, ...Object.fromEntries(given.map((name) => [name, name === "country" ? countryCode(values[name]) : values[name]])) };
}

/** Makes a location, or describes one that is there. */
function describe(one, all, read) {
  const old = one?.address ?? {};
  const idFault = (typed) => {
    if (!/^[a-z0-9-]{1,32}$/.test(typed)) return "must be 1 to 32 small letters, digits and hyphens";
    return all.some((other) => other.id === typed) ? "is a location already" : null;
  };
  ask({
    heading: one ? `Edit ${one.name}` : "New location", verb: one ? "Save" : "Add the location", about: one ? about(one) : undefined,
    done: one ? "The location was saved" : "The location was added",
    fields: [
      ...(one ? [] : [{ name: "id", label: "ID", also: ["location"], required: true, check: idFault, hint: "Small letters, digits and hyphens, such as london-2. Stock is kept under it: it cannot be changed." }]),
      { name: "name", label: "Name", required: true, value: one?.name ?? "" },
      { name: "addressee", label: "Addressee", half: true, also: ["address.name"], value: old.name ?? "", hint: "The location's name, if this is empty." },
      ...PARTS.map(([name, label]) => ({ name, label, half: true, also: [`address.${name}`], value: old[name] ?? "", ...(name === "country" ? { hint: "Its name, or its two letters, such as GB." } : {}) })),
      ...(one ? [] : [{ name: "for_sale", label: "Its units are for sale", type: "checkbox", value: true }]),
    ],
    async act(values, key, now) {
      const address = addressIn(values);
      if (one) await send("PATCH", place(one.id), { name: values.name, address }, { key, version: now.version });
      else await send("PUT", place(values.id), { name: values.name, address, for_sale: values.for_sale }, { key, version: 0 });
      await read();
    },
  });
}

function sell(one, read) {
  const close = one.for_sale;
  ask({
    heading: `${close ? "Close" : "Open"} ${one.name} for sale`, verb: close ? "Close for sale" : "Open for sale", danger: close, about: about(one),
    done: close ? `${one.name} is closed for sale` : `${one.name} is open for sale`,
    intro: close ? "Its units stay where they are, and no new order reserves them. What is reserved or allocated is still shipped." : "New orders can reserve its units.",
    async act(_, key, now) {
      await send("PATCH", place(one.id), { for_sale: !close }, { key, version: now.version });
      await read();
    },
  });
}

function remove(one, read) {
  ask({
    heading: `Delete ${one.name}`, verb: "Delete the location", danger: true, done: `${one.name} was deleted`, about: about(one),
    intro: "A location that has units, or units on their way to it, cannot be deleted: move them or write them off first. Its history stays.",
    async act(_, key, now) {
      await send("DELETE", place(one.id), undefined, { key, version: now.version });
      await read();
    },
  });
}
