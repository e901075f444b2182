// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Shows one view at a time. Whatever comes from outside enters the page as
// textContent only.

const $ = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

const view = (name) => $(`[data-view="${name}"]`);
export const button = (action) => $(`[data-do="${action}"]`);

/** Shows a view, moves the focus to its heading and says so to the driver of tests. */
export function show(name) {
  for (const section of all('[data-view]')) section.hidden = section.dataset.view !== name;
  document.documentElement.dataset.state = name;
  const heading = $('h1', view(name));
  document.title = heading.textContent;
  heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/** Puts text wherever the page has a place of that name. */
export function set(name, text) {
  for (const e of all(`[data-text="${name}"]`)) e.textContent = text;
}

/** A note under a form or over buttons; alerts are spoken at once. */
export function note(id, text) {
  $(`#${id}`).textContent = text;
}

/** Speaks without showing. */
export function announce(text) {
  $('#live').textContent = text;
}

export function banner(on) {
  $('#banner').hidden = !on;
  if (on) announce($('#banner').textContent);
}

/** Fills a view's fields and returns what they hold then: what is signed is what is shown. */
export function showFields(container, fields) {
  for (const e of all('[data-field]', container)) e.textContent = fields[e.dataset.field];
  return shownFields(container);
}

export function shownFields(container) {
  return Object.fromEntries(all('[data-field]', container).map((e) => [e.dataset.field, e.textContent]));
}

/** Shows what is said of one kind of attempt only: "login" or "enroll". */
export function only(kind) {
  for (const e of all('[data-kind]')) e.hidden = e.dataset.kind !== kind;
}

/** Six digits in two groups; a screen reader spells them. None takes them away. */
export function showDigits(element, code) {
  if (code === '') {
    element.replaceChildren();
    delete element.dataset.code;
    return;
  }
  element.replaceChildren(...[code.slice(0, 3), code.slice(3)].map((text) => {
    const span = document.createElement('span');
    span.textContent = text;
    span.ariaHidden = 'true';
    return span;
  }), Object.assign(document.createElement('span'), { className: 'quiet', textContent: [...code].join(' ') }));
  element.dataset.code = code;
}

/** Replaces a list's items. */
export function list(element, texts) {
  element.replaceChildren(...texts.map((text) => Object.assign(document.createElement('li'), { textContent: text })));
}

/** Replaces a group of buttons: [[words, action]...]. */
export function buttons(element, entries, className) {
  element.replaceChildren(...entries.map(([words, action]) => {
    const b = Object.assign(document.createElement('button'), { type: 'button', textContent: words, className });
    b.addEventListener('click', action);
    return b;
  }));
}

/** "12:01:07, 20 seconds ago", in this device's own time. */
export function timeOf(seconds, now = Date.now()) {
  const at = new Date(seconds * 1000);
  const clock = at.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  const ago = Math.round(now / 1000 - seconds);
  if (Math.abs(ago) > 3600) return at.toLocaleString();
  if (ago < -5) return `${clock} (a clock is wrong)`;
  if (ago < 5) return `${clock}, just now`;
  if (ago < 100) return `${clock}, ${ago} seconds ago`;
  return `${clock}, ${Math.round(ago / 60)} minutes ago`;
}
