// Asking before something is done: a form in a dialog, with the server's objections at its fields.

import { freshKey } from "./api.js";
import { attr, fill, h, keepFocus, say, text } from "./dom.js";
import { title } from "./format.js";

const shown = new Set();
/** The least distance of a dialog from the edge of the window, and the place below it for what is said later, in pixels. */
const [EDGE, GROWTH] = [12, 190];

/** Opens a dialog. It belongs to the page that is shown, and gives the focus back when it closes. */
export function openDialog(heading, ...content) {
  const giveBack = keepFocus(document.getElementById("frame"));
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title", text: heading }), content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    shown.delete(dialog);
    if (dialog.dataset.left === undefined) giveBack();
  });
  document.body.append(dialog);
  shown.add(dialog);
  dialog.showModal();
  // It grows downwards only: what is in it keeps its place under a mouse.
  const { top, height } = dialog.getBoundingClientRect();
  dialog.style.setProperty("--top", `${Math.max(EDGE, Math.min(top, innerHeight - height - GROWTH))}px`);
  return dialog;
}

/** Closes the dialogs of a page that is left. */
export function closeDialogs() {
  for (const dialog of shown) {
    dialog.dataset.left = "";
    dialog.close();
  }
}

/**
 * Asks, and does it. `fields`: `{name, label, type?, hint?, value?, required?, options?, element?}`;
 * `act(values, key, subject)` sends it and may throw a `Problem`; `read()` of a field's `element`
 * gives its value. The key stays the same for as long as what is asked for does.
 *
 * `half` fields stand beside one another.
 *
 * `check(value, subject)` of a field answers what is wrong with what was typed, if anything is; it is
 * said when the field is left, and before anything is sent. `also` are other names of the field in
 * objections of the server, `codes` those of its problems that mean the field; `follow(subject)` of an
 * `element` shows a subject that has changed. `most(value, subject)` answers what is wrong with a value
 * that reads well and cannot be: it is said like what `check` finds, and in place of the sum.
 *
 * `about` is what the dialog is about: `{now, read(), changes(before, after), follow(look)}`. When it
 * changes while the dialog is open, the dialog says how, at its end, where it moves nothing, and acts on the new version from then on.
 * `sum(values, subject)` is a line above the buttons, written anew with every change, as long as every
 * field is right. `impossible(subject)` answers why nothing can be sent, if so.
 */
export function ask({ heading, intro, fields = [], verb, danger = false, act, done, about, sum, impossible = () => null }) {
  const error = h("p", { class: "form-error", role: "alert", id: "dialog-error", hidden: true });
  const news = h("div", { class: "callout wait news", role: "status", hidden: true });
  const output = sum ? h("output", { class: "sum" }) : null;
  const built = fields.map(field);
  const go = h("button", { class: danger ? "button danger" : "button primary", text: verb });
  const back = h("button", { class: "button", type: "button", text: "Back" });
  const form = h("form", { novalidate: true }, built.map((one) => one.row), output, error,
    h("div", { class: "dialog-end" }, back, go));
  const values = () => Object.fromEntries(built.map((one) => [one.name, one.read()]));
  const subject = about ? new Subject(about, news, () => follow()) : null;
  const wrong = () => built.map((one) => [one, one.check(subject?.now)]).filter(([, fault]) => fault);
  const total = () => {
    if (!output) return;
    const over = built.map((one) => one.over(subject?.now)).find(Boolean);
    if (over) fill(output, h("span", { class: "over", text: title(over) }));
    else fill(output, wrong().length ? h("span", { class: "faint", text: "The sum is shown once every field is right." }) : sum(values(), subject?.now));
  };
  /** Says why nothing can be sent; whether that is so. */
  let barred = false;
  const bar = () => {
    const why = impossible(subject?.now);
    if (why || barred) {
      text(error, why ?? "");
      error.hidden = !why;
    }
    barred = Boolean(why);
    attr(go, "aria-disabled", barred ? "true" : null);
    attr(go, "aria-describedby", barred ? error.id : null);
    return barred;
  };
  /** Says all that is wrong, and goes to the first of it; false if nothing is. */
  const refuse = () => {
    const missing = built.filter((one) => one.required && one.read() === "").map((one) => [one, one.why ?? "is needed"]);
    const faults = [...missing, ...wrong()];
    for (const [one, fault] of faults) one.complain(fault);
    built.find((one) => faults.some(([at]) => at === one))?.focus();
    return faults.length > 0;
  };
  const follow = () => {
    for (const one of built.filter((one) => one.follow(subject.now))) {
      const fault = one.check(subject.now);
      if (fault) one.complain(fault);
    }
    total();
    bar();
  };
  let sent = { body: null, key: null };

  const submit = async () => {
    if (go.disabled || barred) return;
    error.hidden = true;
    for (const one of built) one.complain(null);
    if (refuse()) return;
    const asked = values();
    const body = JSON.stringify(asked);
    if (sent.body !== body) sent = { body, key: freshKey() };
    go.disabled = true;
    dialog.setAttribute("aria-busy", "true");
    try {
      await act(asked, sent.key, subject?.now);
      dialog.close();
      if (done && dialog.dataset.left === undefined) say(typeof done === "function" ? done() : done);
    } catch (problem) {
      if (!dialog.open) return say(`${heading}: ${sentence(problem)}`, true);
      if (problem.code === "version_mismatch") {
        sent = { body: null, key: null };
        await subject?.look();
        if (refuse()) return;
      }
      show(problem);
    } finally {
      go.disabled = false;
      dialog.removeAttribute("aria-busy");
    }
  };

  function show(problem) {
    const rest = [];
    for (const { field: name, message } of problem.errors ?? []) {
      const one = built.find((one) => one.names.some((mine) => name === mine || name.startsWith(`${mine}.`) || name.startsWith(`${mine}[`)));
      if (one) one.complain(message, name);
      else rest.push(name ? `${name} ${message}` : message);
    }
    const meant = problem.errors?.length ? null : built.find((one) => one.codes.includes(problem.code));
    meant?.complain(problem.message);
    const first = built.find((one) => one.complained());
    if (first && rest.length === 0) return first.focus();
    text(error, rest.length && !ADVICE[problem.code] ? rest.join("; ") : sentence(problem));
    error.hidden = false;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.addEventListener("input", ({ target }) => {
    // What is put right is no longer wrong; what is wrong is said once the field is left.
    const one = built.find((one) => one.row.contains(target));
    if (one?.complained() && !one.check(subject?.now)) one.complain(null);
    total();
  });
  form.addEventListener("change", ({ target }) => {
    const one = built.find((one) => one.row.contains(target));
    const fault = one?.check(subject?.now);
    if (fault) one.complain(fault);
  });
  const dialog = openDialog(heading,
    intro ? h(typeof intro === "string" ? "p" : "div", { class: "dialog-intro" }, intro) : null, form, news);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    }
  });
  back.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => subject?.close());
  total();
  if (bar()) back.focus();
  else (built[0] ?? { focus: () => back.focus() }).focus();
}

/** What a dialog is about, followed for as long as the dialog is open. */
class Subject {
  #about;
  #news;
  #first;
  #changed;
  #following;

  constructor(about, news, changed) {
    this.#about = about;
    this.#news = news;
    this.#changed = changed;
    this.#first = about.now;
    this.now = about.now;
    this.#following = about.follow?.(() => this.look());
  }

  /** Reads it again, and says what has changed since the dialog was opened. */
  async look() {
    const next = await this.#about.read().catch(() => null);
    if (!next || next.version <= this.now.version) return;
    this.now = next;
    const list = this.#about.changes(this.#first, next);
    fill(this.#news, h("b", { text: "Changed while this dialog was open" }),
      h("ul", {}, list.slice(0, NEWS_MAX).map((one) => h("li", { text: one })),
        list.length > NEWS_MAX ? h("li", { text: `and ${list.length - NEWS_MAX} more` }) : null));
    this.#news.dataset.version = next.version;
    this.#news.hidden = false;
    this.#changed();
  }

  close() {
    this.#following?.close();
  }
}

/** The most changes that a dialog names. */
const NEWS_MAX = 4;

/** Shows something in a dialog that only closes; answers the element to fill. */
export function look(heading, body = h("div", { class: "looked-at" })) {
  const close = h("button", { class: "button", type: "button", text: "Close", autofocus: true });
  const dialog = openDialog(heading, body, h("div", { class: "dialog-end" }, close));
  close.addEventListener("click", () => dialog.close());
  return { body, close: () => dialog.close() };
}

const ADVICE = {
  version_mismatch: "It changed while this dialog was open: check what changed. If you submit again, that applies to the current state.",
  stock_changed: "The units on hand changed while this dialog was open: check the count, and submit again.",
  no_answer: "Submit again: with the same key nothing is done twice.",
  try_again: "Submit again after a few seconds: with the same key nothing is done twice.",
  forbidden: "Your session lacks the scope for this.",
};

/** What went wrong, and what can be done about it. */
export function sentence(problem) {
  const said = problem.message.charAt(0).toUpperCase() + problem.message.slice(1);
  const end = /[.!?]$/.test(said) ? said : `${said}.`;
  return ADVICE[problem.code] ? `${end} ${ADVICE[problem.code]}` : end;
}

let fields = 0;

function field(one) {
  const id = `field-${++fields}`;
  const wrong = h("p", { class: "field-error", id: `${id}-error`, hidden: true });
  const control = one.element ?? input(one, id);
  const target = control.matches("input, select, textarea") ? control : (control.querySelector("input") ?? control);
  const tied = one.hint ? `${id}-hint ${id}-error` : `${id}-error`;
  if (!one.element) target.setAttribute("aria-describedby", tied);
  const check = one.type === "checkbox";
  const label = one.element
    ? h("p", { class: "label", text: one.label })
    : h("label", { for: id, class: "label" }, one.label, one.required ? null : check ? null : h("span", { class: "faint", text: " optional" }));
  const row = h("div", { class: check ? "field check" : one.half ? "field half" : "field" },
    check ? [control, label] : [label, control],
    one.hint ? h("p", { class: "hint", id: `${id}-hint`, text: one.hint }) : null, wrong);
  /** What cannot be, though it reads well. */
  const over = (subject) => (one.most && read() !== "" && !one.check?.(read(), subject) ? one.most(read(), subject) : null);
  const read = () => (one.read ? one.read() : check ? target.checked : target.value.trim());
  return {
    name: one.name,
    names: [one.name, ...(one.also ?? [])],
    codes: one.codes ?? [],
    required: one.required,
    why: one.why,
    row,
    read,
    check: (subject) => (one.element || read() !== "" ? one.check?.(read(), subject) ?? over(subject) : null),
    over,
    follow: (subject) => one.follow?.(subject) ?? false,
    focus: () => (control.querySelector('[aria-invalid="true"]') ?? target).focus(),
    complained: () => !wrong.hidden || control.querySelector('[aria-invalid="true"]') !== null,
    complain: (message, at) => {
      if (one.complain?.(message, at)) return;
      wrong.hidden = !message;
      text(wrong, message ? `${one.label}: ${message}` : "");
      if (message) target.setAttribute("aria-invalid", "true");
      else target.removeAttribute("aria-invalid");
    },
  };
}

function input(one, id) {
  const shared = { id, name: one.name, autocomplete: "off" };
  if (one.type === "select") {
    return h("select", shared, one.options.map(([value, words]) => h("option", { value, text: words })));
  }
  if (one.type === "reason") return h("textarea", { ...shared, rows: "2", maxlength: "500", required: one.required });
  const element = h("input", { ...shared, type: one.type ?? "text", inputmode: one.inputmode, required: one.required });
  if (one.type === "checkbox") element.checked = Boolean(one.value);
  else if (one.value !== undefined) element.value = one.value;
  return element;
}

/** The field that every change asks for. */
export const reason = (hint = "Kept in the order's history with your name.") =>
  ({ name: "reason", label: "Reason", type: "reason", required: true, hint, why: "say why, in a few words" });

/** An objection at a field, as the server makes them. */
export function complaint(field, message) {
  const error = new Error(message);
  error.errors = [{ field, message }];
  return error;
}
