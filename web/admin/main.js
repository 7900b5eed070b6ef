// The frame: session, navigation, theme, connection. Each page is a module that fills `main`.

import { alarms } from "./alarms.js";
import { calls, get, send } from "./api.js";
import { attention } from "./attention.js";
import { cluster } from "./cluster.js";
import { attr, fill, h, hush, say, text, turnPage } from "./dom.js";
import { ask, closeDialogs, sentence } from "./dialog.js";
import { people } from "./format.js";
import { item } from "./item.js";
import { help, pageKeys, startKeys } from "./keys.js";
import { live } from "./live.js";
import { locations } from "./locations.js";
import { order } from "./order.js";
import { orders } from "./orders.js";
import { overview } from "./overview.js";
import { packing } from "./packing.js";
import { empty, icon, startClock, when } from "./parts.js";
import { refusal, useScopes } from "./rights.js";
import { addressOf, go, here, remember } from "./router.js";
import { byLink, linkInAddress, signIn } from "./signin.js";
import { settings } from "./settings.js";
import { stock } from "./stock.js";
import { system } from "./system.js";

const NAV = [
  ["", "overview", "Overview"],
  ["orders", "orders", "Orders"],
  ["stock", "stock", "Stock"],
  ["attention", "attention", "Attention"],
  ["cluster", "cluster", "Cluster"],
  ["system", "system", "System"],
  ["settings", "settings", "Settings"],
];
const frame = document.getElementById("frame");
const main = document.getElementById("main");
const inside = document.getElementById("page");
const banner = document.getElementById("banner");
let session = null;
let shown = null;

function pageOf(parts) {
  const [first = "", second] = parts;
  if (first === "orders") return second ? order : orders;
  if (first === "stock") return second ? item : stock;
  const pages = { "": overview, attention, cluster, locations, packing, system, settings };
  // Any object has a `constructor`.
  return Object.hasOwn(pages, first) ? pages[first] : missing;
}

/** What the pages need to be read: the scope, and what it is for. Attention says for itself what it lacks. */
const READS = new Map([
  ...[overview, orders, order, packing].map((page) => [page, ["orders:read", "read orders"]]),
  ...[stock, item, locations].map((page) => [page, ["stock:read", "read stock"]]),
  ...[cluster, system, settings].map((page) => [page, ["ops", "see how the servers are run"]]),
]);

/** The page itself, or the one that says why it cannot be read. */
function readable(page) {
  const why = READS.has(page) ? refusal(...READS.get(page)) : null;
  if (!why) return page;
  return function unreadable(root) {
    fill(root, empty("This page cannot be shown", why, "Sign in with a key that has it."));
    return { heading: "Not shown", close() {} };
  };
}

function missing(root) {
  fill(root, empty("There is no such page", h("p", {}, h("a", { href: "#/", text: "Overview" }))));
  return { heading: "Not found", close() {} };
}

/** Lists that were left, by the key of their page: they come back as they were. */
const kept = new Map();

function route() {
  if (!session) return;
  const place = here();
  const page = readable(pageOf(place.parts));
  const key = `${page.name} ${place.parts.join("/")}`;
  if (shown?.key === key) {
    shown.view.update?.(place);
    if (shown.view.sleep) remember(place.parts[0], location.hash);
    return;
  }
  leavePage();
  const again = kept.get(key);
  kept.delete(key);
  const root = again?.root ?? h("div", { class: `page ${page.name}` });
  inside.replaceChildren(root);
  shown = again ?? { key, root, view: page(root, place) };
  // A list as it was left; another search in it begins at its top.
  const same = again?.view.wake(place) ?? false;
  pageKeys(shown.view.keys ?? {}, shown.view.help ?? []);
  document.title = `${shown.view.heading} · kontor`;
  text(document.getElementById("heading"), shown.view.heading);
  const section = { packing: "orders", locations: "stock" }[page.name] ?? place.parts[0] ?? "";
  for (const link of document.querySelectorAll("nav a")) {
    attr(link, "aria-current", link.dataset.name === section ? "page" : null);
  }
  scrollTo({ top: same ? again.scroll : 0 });
}

/** Ends the page that is shown, with its dialogs and what it said; a list is only put aside. */
function leavePage() {
  closeDialogs();
  turnPage();
  if (shown?.view.sleep) {
    shown.scroll = scrollY;
    remember(shown.key.split(" ")[1], shown.view.sleep());
    kept.set(shown.key, shown);
  } else shown?.view.close();
  shown = null;
}

function drawNav() {
  fill(document.getElementById("nav"), NAV.map(([path, picture, label]) =>
    h("a", { href: `#/${path}`, data: { name: path } }, icon(picture), h("span", { text: label }),
      path === "attention" ? h("span", { class: "tally num", id: "tally", hidden: true }) : null)));
  const tools = [["theme", "Light or dark", toggleTheme], ["keys", "Keyboard shortcuts", help], ["out", "Sign out", signOut]];
  fill(document.getElementById("tools"), tools.map(([picture, label, run]) =>
    h("button", { class: `icon-button ${picture}`, type: "button", title: label, "aria-label": label, onclick: run }, icon(picture))));
}

function drawTally() {
  const tally = document.getElementById("tally");
  if (!tally) return;
  tally.hidden = alarms.count === 0;
  text(tally, `${alarms.count}${alarms.stuck.more ? "+" : ""}`);
  attr(tally, "aria-label", `${alarms.count} waiting`);
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("kontor.theme", root.dataset.theme);
  } catch {
    // Storage may be refused: then the choice lasts as long as the page.
  }
  dispatchEvent(new Event("theme"));
}

let counting = 0;

function drawConnection() {
  clearInterval(counting);
  const status = document.getElementById("connection");
  attr(status, "class", `connection ${live.state}`);
  text(status, live.state === "open" ? "Live" : live.state === "connecting" ? "Connecting" : "Offline");
  const lost = session && live.state === "waiting";
  document.body.classList.toggle("lost", Boolean(lost));
  if (live.state === "open" || !session) banner.hidden = true;
  if (!lost) return;
  const wait = h("span", { class: "num" });
  fill(banner, h("b", { text: navigator.onLine ? "The connection is lost." : "This browser is offline." }), " The data may be stale. Reconnecting in ", wait, h("button", { class: "button small", type: "button", text: "Reconnect now", onclick: () => live.retry() }));
  banner.hidden = false;
  const show = () => text(wait, `${Math.max(0, Math.ceil((live.retryAt - Date.now()) / 1000))} s.`);
  show();
  counting = setInterval(show, 500);
}

/** Says on every page that buyers cannot buy, since when, by whom and why. */
function drawNotice() {
  const notice = document.getElementById("notice");
  const off = session ? alarms.off.filter((one) => one.name === "checkout" || one.name.startsWith("providers.")) : [];
  const version = off.map((one) => `${one.name} ${one.version}`).join();
  notice.hidden = off.length === 0;
  if (notice.dataset.shown === version) return;
  notice.dataset.shown = version;
  fill(notice, off.map((one) => h("p", {},
    h("b", { text: one.name === "checkout" ? "Checkout is switched off: buyers cannot place orders." : `Payments by ${one.name.slice(10)} are switched off.` }),
    ...(one.changed_at ? [" Switched off ", when(one.changed_at, true), ` by ${people(one.changed_by, one.changed_by_name)}: `, h("q", { text: one.reason })] : []))),
  h("a", { class: "button small", href: "#/settings", text: "Settings" }));
}

function enter(opened) {
  session = opened;
  useScopes(opened.scopes);
  document.body.classList.remove("signed-out");
  frame.hidden = false;
  document.getElementById("gate").replaceChildren();
  text(document.getElementById("who"), opened.name);
  attr(document.getElementById("who"), "title", `Scopes: ${opened.scopes.join(", ")}`);
  live.start();
  alarms.start();
  route();
}

function leave(why) {
  const was = session;
  session = null;
  leavePage();
  for (const { view } of kept.values()) view.close();
  kept.clear();
  pageKeys({});
  inside.replaceChildren();
  if (was) alarms.stop();
  useScopes([]);
  live.stop();
  drawConnection();
  drawNotice();
  frame.hidden = true;
  document.body.classList.add("signed-out");
  document.title = "Sign in · kontor";
  signIn(document.getElementById("gate"), enter, why);
}

async function signOut() {
  try {
    await send("DELETE", "/v1/session");
    leave("");
  } catch (problem) {
    say(sentence(problem), true);
  }
}

async function start() {
  history.scrollRestoration = "manual";
  drawNav();
  startClock();
  startKeys({ t: toggleTheme, "/": () => go(addressOf("orders")), Escape: () => go("#/") });
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#sign-in=")) open(linkInAddress());
    else route();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
  let lost = false;
  live.addEventListener("state", () => {
    drawConnection();
    if (live.state === "open" && lost) {
      alarms.refresh();
      shown?.view.reconnected?.();
    }
    lost = live.state === "waiting" || (lost && live.state !== "open");
  });
  live.addEventListener("signed-out", () => leave("Your session has ended. Sign in again."));
  calls.addEventListener("signed-out", () => session && leave("Your session has ended. Sign in again."));
  calls.addEventListener("back", () => {
    if (!session) return;
    hush();
    live.retry();
    alarms.refresh();
    shown?.view.reconnected?.();
  });
  alarms.addEventListener("change", () => {
    drawTally();
    drawNotice();
  });
  await open(linkInAddress());
}

const USED = "This link was used already, or has expired. One command prints a new one.";

/** Asks before a link opens its session in place of another: somebody else may have sent it. */
function replace(link) {
  ask({
    heading: "Sign in as somebody else?",
    intro: `You are signed in as ${session.name}. The link opens another session in this browser, and what you do then is done in the name of whoever made the link. Go on only if you asked for it.`,
    verb: "Use the link",
    async act() {
      const opened = await byLink(link);
      leave("");
      enter(opened);
    },
  });
}

/** Opens a session by a link, or takes up the one that is there. */
async function open(link) {
  let why = "";
  if (link) {
    if (!session) await get("/v1/session").then(enter, () => {});
    if (session) return replace(link);
    try {
      return enter(await byLink(link));
    } catch (problem) {
      why = problem.status === 401 ? USED : sentence(problem);
    }
  }
  if (session) return why ? say(why, true) : route();
  try {
    enter(await get("/v1/session"));
    if (why) say(why, true);
  } catch (problem) {
    leave(why || (problem.status === 401 ? "" : sentence(problem)));
  }
}

start();
