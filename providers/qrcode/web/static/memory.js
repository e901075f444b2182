// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// What was approved on this device, so that the page can name what is new. It
// is a help for the person and decides nothing: losing it costs one more tap.

const KEY = 'pam-authn.approved';
const USED = 'pam-authn.used';
const LIMIT = 300;

function load(key) {
  try {
    const list = JSON.parse(localStorage.getItem(key));
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

function store(key, list) {
  try {
    localStorage.setItem(key, JSON.stringify(list.slice(-LIMIT)));
  } catch { /* storage is switched off or full: everything stays new */ }
}

/**
 * The neighbourhood of an address: a /24 of IPv4, a /48 of IPv6, which is what
 * one site usually has; anything else (a name, nothing) stands for itself.
 */
export function block(rhost) {
  const v4 = /^(?:::ffff:)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.\d{1,3}$/i.exec(rhost);
  if (v4) return `${v4[1]}.${v4[2]}.${v4[3]}.0/24`;
  const v6 = rhost.replace(/%.*$/, '').toLowerCase();
  if (!/^[0-9a-f:]+$/.test(v6) || !v6.includes(':')) return rhost;
  const [head, tail] = v6.split('::');
  const left = head ? head.split(':') : [];
  const right = tail ? tail.split(':') : [];
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array(zeros).fill('0'), ...right].slice(0, 3);
  return `${groups.map((g) => parseInt(g, 16).toString(16)).join(':')}::/48`;
}

const entry = ({ host, account, rhost }) => [host, account, block(rhost)];

/** What of this login was never approved here: "host", "account" or "rhost"; none if all was. */
export function news(fields) {
  const [host, account, place] = entry(fields);
  const same = load(KEY).filter((e) => Array.isArray(e) && e[0] === host);
  if (same.length === 0) return ['host', 'account', 'rhost'];
  if (!same.some((e) => e[1] === account)) return ['account', 'rhost'];
  return same.some((e) => e[1] === account && e[2] === place) ? [] : ['rhost'];
}

export function remember(fields) {
  const now = entry(fields);
  const rest = load(KEY).filter((e) => JSON.stringify(e) !== JSON.stringify(now));
  store(KEY, [...rest, now]);
}

export function forgetAll() {
  try {
    localStorage.removeItem(KEY);
    localStorage.removeItem(USED);
  } catch { /* nothing is kept */ }
}

/** Codes that ended on this device, by id, for "already used". */
export function markUsed(id) {
  store(USED, [...load(USED).filter((x) => x !== id), id].slice(-20));
}

export function wasUsed(id) {
  return load(USED).includes(id);
}
