// Asking before something is done: a form in a dialog, with the server's objections at its fields.

import { freshKey } from "./api.js";
import { h, say, text } from "./dom.js";

/**
 * Asks, and does it. `fields`: `{name, label, type?, hint?, value?, required?, options?, element?}`;
 * `act(values, key)` sends it and may throw a `Problem`; `read()` of a field's `element` gives its
 * value. The key stays the same for as long as what is asked for does.
 */
export function ask({ heading, intro, fields = [], verb, danger = false, act, done }) {
  const error = h("p", { class: "form-error", role: "alert", hidden: true });
  const built = fields.map(field);
  const go = h("button", { class: danger ? "button danger" : "button primary", text: verb });
  const back = h("button", { class: "button", type: "button", text: "Back" });
  const form = h("form", { novalidate: true }, built.map((one) => one.row), error,
    h("div", { class: "dialog-end" }, back, go));
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "ask-title" },
    h("h2", { id: "ask-title", text: heading }),
    intro ? h(typeof intro === "string" ? "p" : "div", { class: "dialog-intro" }, intro) : null, form);
  let sent = { body: null, key: null };

  const submit = async () => {
    error.hidden = true;
    for (const one of built) one.complain(null);
    const missing = built.filter((one) => one.required && one.read() === "");
    for (const one of missing) one.complain(one.why ?? "is needed");
    if (missing.length) return missing[0].focus();
    const values = Object.fromEntries(built.map((one) => [one.name, one.read()]));
    const body = JSON.stringify(values);
    if (sent.body !== body) sent = { body, key: freshKey() };
    go.disabled = true;
    dialog.setAttribute("aria-busy", "true");
    try {
      const answer = await act(values, sent.key);
      dialog.close();
      if (done) say(done);
      return answer;
    } catch (problem) {
      show(problem);
    } finally {
      go.disabled = false;
      dialog.removeAttribute("aria-busy");
    }
  };

  function show(problem) {
    const rest = [];
    for (const { field: name, message } of problem.errors ?? []) {
      const one = built.find((one) => name === one.name || name.startsWith(`${one.name}.`) || name.startsWith(`${one.name}[`));
      if (one) one.complain(message);
      else rest.push(`${name} ${message}`);
    }
    const first = built.find((one) => one.complained());
    if (first && rest.length === 0) return first.focus();
    text(error, rest.length ? rest.join("; ") : sentence(problem));
    error.hidden = false;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  back.addEventListener("click", () => dialog.close());
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    // What it was opened from may have been drawn anew.
    const now = before?.isConnected ? before : before?.id ? document.getElementById(before.id) : null;
    now?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  built[0]?.focus();
}

/** Shows something in a dialog that only closes; answers the element to fill. */
export function look(heading) {
  const body = h("div", { class: "looked-at" });
  const close = h("button", { class: "button", type: "button", text: "Close", autofocus: true });
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "look-title" },
    h("h2", { id: "look-title", text: heading }), body, h("div", { class: "dialog-end" }, close));
  const before = document.activeElement;
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return { body, close: () => dialog.close() };
}

const ADVICE = {
  version_mismatch: "The data changed while this dialog was open. Check it again; your next submission applies to the current state.",
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
  const target = one.element ? (control.querySelector("input") ?? control) : control;
  const tied = one.hint ? `${id}-hint ${id}-error` : `${id}-error`;
  if (!one.element) control.setAttribute("aria-describedby", tied);
  const check = one.type === "checkbox";
  const label = one.element
    ? h("p", { class: "label", text: one.label })
    : h("label", { for: id, class: "label" }, one.label, one.required ? null : check ? null : h("span", { class: "faint", text: " optional" }));
  const row = h("div", { class: check ? "field check" : "field" },
    check ? [control, label] : [label, control],
    one.hint ? h("p", { class: "hint", id: `${id}-hint`, text: one.hint }) : null, wrong);
  return {
    name: one.name,
    required: one.required,
    why: one.why,
    row,
    read: () => (one.read ? one.read() : check ? control.checked : control.value.trim()),
    focus: () => target.focus(),
    complained: () => !wrong.hidden,
    complain: (message) => {
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
  if (one.type === "reason") return h("textarea", { ...shared, rows: "2", maxlength: "500", required: true });
  const element = h("input", { ...shared, type: one.type ?? "text", inputmode: one.inputmode, required: one.required });
  if (one.type === "checkbox") element.checked = Boolean(one.value);
  else if (one.value !== undefined) element.value = one.value;
  return element;
}

/** The field that every change asks for. */
export const reason = (hint = "Kept in the order's history with your name.") =>
  ({ name: "reason", label: "Reason", type: "reason", required: true, hint, why: "say why, in a few words" });
