// Lists that change by themselves: their rows keep their places while somebody is at them.

import { h, text } from "./dom.js";

/** Whether the pointer that was used last can rest on something: a finger cannot. */
let rests = true;
for (const kind of ["pointermove", "pointerdown"]) {
  addEventListener(kind, ({ pointerType }) => (rests = pointerType !== "touch"), { capture: true, passive: true });
}

/** Whether what was used last is a finger. */
export const byFinger = () => !rests;

/** Whether somebody is at a list: a pointer rests on it, or the focus is in a row of it. */
export const atHand = (list) => (rests && list.matches(":hover")) || list.contains(document.activeElement?.closest("[data-row]") ?? null);

/** Runs once nobody is at a list any more. */
export function onceLeft(list, run) {
  const look = () => requestAnimationFrame(() => list.isConnected && !atHand(list) && run());
  list.addEventListener("pointerleave", look);
  list.addEventListener("focusout", look);
}

/**
 * A list that is drawn anew by `draw()` whenever its `key()`, which tells what its rows are, has become
 * another one. While somebody is at it, its pill says so instead, in the words of `news()`. Lists that
 * would move one another when they grow share an `area`.
 *
 * `ask(now)` draws what is new, with `now` in any case.
 */
export function heldList(list, { key, draw, news = () => "Updated", area = list }) {
  let drawn;
  const ask = (now = false) => {
    const next = key();
    const waits = next !== drawn && !now && area.querySelector("[data-row]") !== null && atHand(area);
    pill.hidden = !waits;
    if (waits) return text(pill, news());
    if (next === drawn) return;
    drawn = next;
    draw();
  };
  /** The pill goes, and the focus with it: to the page. */
  const show = () => {
    ask(true);
    document.getElementById("main").focus({ preventScroll: true });
  };
  const pill = h("button", { class: "pill small", type: "button", title: "Show it: the list waits while you are at it", hidden: true, onclick: show });
  onceLeft(area, () => ask());
  return { pill, ask };
}
