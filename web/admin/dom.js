// Making and changing elements. No framework: what the pages need, and nothing else.

const SVG = "http://www.w3.org/2000/svg";

function put(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "class") element.setAttribute("class", value);
  else if (name === "text") element.textContent = value;
  else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name === "style") {
    for (const [key, set] of Object.entries(value)) element.style.setProperty(key, set);
  } else if (value === true) element.setAttribute(name, "");
  else element.setAttribute(name, value);
}

/** An element with its attributes (`on…` listen, `style` goes through CSSOM) and children. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) put(element, name, value);
  add(element, children);
  return element;
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) put(element, name, value);
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child);
  }
}

/** Writes a text only if it is another one: a text that stays costs no layout. */
export function text(element, value) {
  const next = String(value);
  if (element.textContent !== next) element.textContent = next;
}

/** Sets or removes an attribute only if that changes it. */
export function attr(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Puts other children into an element. */
export function fill(element, ...children) {
  const fragment = document.createDocumentFragment();
  add(fragment, children);
  element.replaceChildren(fragment);
}

/**
 * Makes `old` look as `fresh` does, in place: only texts and attributes that differ are written. What
 * listens in `old` goes on to do so.
 */
export function renew(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.childNodes.length !== fresh.childNodes.length) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) attr(old, name, value);
  const next = [...fresh.childNodes];
  [...old.childNodes].forEach((child, at) => renew(child, next[at]));
}

/**
 * Makes the children of `parent` be the elements of these keys in this order, and moves no element
 * that is in its place already: what has the focus keeps it.
 */
export function arrange(parent, elements) {
  const wanted = new Set(elements);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const element of elements) {
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
}

/** A function that runs at most once a frame, however often it is asked. */
export function perFrame(run) {
  let asked = 0;
  const ask = () => {
    if (asked) return;
    asked = requestAnimationFrame(() => {
      asked = 0;
      run();
    });
  };
  ask.cancel = () => {
    cancelAnimationFrame(asked);
    asked = 0;
  };
  return ask;
}

/** A function that runs at most every `ms` milliseconds, the last time included. */
export function atMost(ms, run) {
  let timer = 0;
  let last = -Infinity;
  const ask = () => {
    if (timer) return;
    const wait = Math.max(0, last + ms - performance.now());
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      run();
    }, wait);
  };
  ask.cancel = () => {
    clearTimeout(timer);
    timer = 0;
  };
  return ask;
}

/** Whether the user asked for little motion. */
export const still = matchMedia("(prefers-reduced-motion: reduce)");

const FOCUSABLE = "a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary, [tabindex]";
/** What tells a control from its neighbors, also after it was drawn anew. */
const nameOf = (one) => one.id || one.dataset.focus || one.getAttribute("href") || one.getAttribute("aria-label") || one.textContent;

/**
 * Remembers where the focus is below `root`. The answer gives it back after its place was drawn anew:
 * to the same control, else to the first of its group (`data-group`), else to the page.
 */
export function keepFocus(root) {
  const held = root.contains(document.activeElement) ? document.activeElement : null;
  if (!held) return () => {};
  const name = nameOf(held);
  const group = held.closest("[data-group]")?.dataset.group;
  return () => {
    if (held.isConnected && document.activeElement === held) return;
    const all = [...root.querySelectorAll(FOCUSABLE)].filter((one) => one.checkVisibility());
    const next = all.includes(held) ? held
      : all.find((one) => nameOf(one) === name) ?? all.find((one) => group && one.closest("[data-group]")?.dataset.group === group);
    (next ?? document.getElementById("main")).focus({ preventScroll: true });
  };
}

let announced = 0;
let page = 0;

/** Tells a screen reader something, politely, and shows it for a moment. */
export function say(message, bad = false) {
  const region = document.getElementById("said");
  text(region, message);
  region.classList.toggle("bad", bad);
  region.classList.add("shown");
  clearTimeout(announced);
  announced = setTimeout(() => region.classList.remove("shown"), bad ? 9000 : 4000);
}

/** `say` for what takes time: it says nothing any more once its page was left (`here()`). */
export function sayHere() {
  const asked = page;
  const tell = (message, bad) => tell.here() && say(message, bad);
  tell.here = () => asked === page;
  return tell;
}

/** Another page is shown: what was said belongs to the one before. */
export function turnPage() {
  page += 1;
  hush();
}

/** Takes back what was said: it holds no longer. */
export function hush() {
  clearTimeout(announced);
  const region = document.getElementById("said");
  region.classList.remove("shown");
  text(region, "");
}
