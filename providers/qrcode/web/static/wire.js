// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// The protocol pam-authn/qr/1 as the phone speaks it: encodings, keys, boxes
// and transcripts. Nothing here touches the page or the network, so that Node
// can test it against the host's golden messages.

export const VERSION = 'pam-authn/qr/1';

/** The fields of a login that the person sees and signs, in signing order. */
export const LOGIN_FIELDS = ['rp_id', 'page_origin', 'host', 'account', 'service', 'rhost', 'tty', 'start'];
/** Likewise of an enrolment. */
export const ENROL_FIELDS = ['rp_id', 'page_origin', 'host', 'account', 'subject', 'user_handle', 'start'];

const PADDING = 512;
const NONCE = 12;
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** What was read is no message of ours, or not for us. */
export class Malformed extends Error {}

const encoder = new TextEncoder();

/** Bytes of a string, or the bytes themselves; numbers as decimal ASCII. */
export function bytes(x) {
  return x instanceof Uint8Array ? x : encoder.encode(String(x));
}

export function concat(...parts) {
  const arrays = parts.map(bytes);
  const out = new Uint8Array(arrays.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const a of arrays) {
    out.set(a, at);
    at += a.length;
  }
  return out;
}

/** LP: each part behind its length as a big-endian 32-bit number. */
export function lengthPrefixed(...parts) {
  return concat(...parts.flatMap((p) => {
    const b = bytes(p);
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, b.length);
    return [length, b];
  }));
}

export function hex(b) {
  return Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('');
}

export function base64(b) {
  return btoa(String.fromCharCode(...b));
}

/** Standard alphabet, padded, canonical; anything else is malformed. */
export function fromBase64(s) {
  if (typeof s !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(s) || s.length % 4 !== 0) throw new Malformed('not base64');
  let raw;
  try {
    raw = atob(s);
  } catch {
    throw new Malformed('not base64');
  }
  const out = Uint8Array.from(raw, (c) => c.charCodeAt(0));
  if (base64(out) !== s) throw new Malformed('not base64');
  return out;
}

export function base64url(b) {
  return base64(b).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export function fromBase64url(s) {
  if (typeof s !== 'string' || !/^[A-Za-z0-9_-]*$/.test(s)) throw new Malformed('not base64url');
  const std = s.replaceAll('-', '+').replaceAll('_', '/');
  return fromBase64(std.padEnd(Math.ceil(std.length / 4) * 4, '='));
}

export function base32(b) {
  let out = '';
  let buffer = 0;
  let bits = 0;
  for (const x of b) {
    buffer = (buffer << 8) | x;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      out += BASE32[(buffer >> bits) & 31];
    }
    buffer &= (1 << bits) - 1;
  }
  return bits > 0 ? out + BASE32[(buffer << (5 - bits)) & 31] : out;
}

function fromBase32(s) {
  const out = [];
  let buffer = 0;
  let bits = 0;
  for (const c of s.toUpperCase()) {
    const v = BASE32.indexOf(c);
    if (v < 0) throw new Malformed('not base32');
    buffer = (buffer << 5) | v;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out.push((buffer >> bits) & 255);
      buffer &= (1 << bits) - 1;
    }
  }
  if (buffer !== 0) throw new Malformed('not base32');
  return Uint8Array.from(out);
}

/** The host's key in the fragment of a link, or null where it holds none. */
export function keyFromFragment(fragment) {
  const text = fragment.replace(/^#/, '');
  if (!/^[A-Za-z2-7]{52}$/.test(text)) return null;
  try {
    return fromBase32(text);
  } catch {
    return null;
  }
}

/**
 * What a scanned code means: {hp, sha1?} for a login, {origin} for a login
 * whose page is another one, null for anything else.
 */
export function parseScanned(text, origin) {
  const own = /^qrauth:([A-Za-z0-9+/]{43}=):([0-9a-f]{40})$/i.exec(text);
  if (own) {
    try {
      return { hp: fromBase64(own[1]), sha1: own[2].toLowerCase() };
    } catch {
      return null;
    }
  }
  let url;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  const hp = keyFromFragment(url.hash);
  if (!hp || url.pathname !== '/1' || url.search !== '' || !/^https?:$/.test(url.protocol)) return null;
  return url.origin === origin ? { hp } : { origin: url.origin };
}

/** The twelve characters of a typed code, canonical, or null. */
export function parseTyped(text) {
  const code = text.toUpperCase().replace(/[\s-]/g, '').replaceAll('O', '0').replace(/[IL]/g, '1');
  return code.length === 12 && [...code].every((c) => CROCKFORD.includes(c)) ? code : null;
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', concat(...parts)));
}

/** A login's name at the relay: 16 bytes that tell nothing about the key. */
export async function idOf(hp) {
  return (await sha256(VERSION, ' id', hp)).slice(0, 16);
}

/** The typed code of a host's key: twelve characters without dashes. */
export async function typedCode(hp) {
  const sum = await sha256(VERSION, ' typed', hp);
  let out = '';
  for (let i = 0; i < 12; i++) {
    const bit = i * 5;
    const two = (sum[bit >> 3] << 8) | sum[(bit >> 3) + 1];
    out += CROCKFORD[(two >> (11 - (bit & 7))) & 31];
  }
  return out;
}

/** Proves to the host that all twelve characters are known; the relay sees five. */
export function lookupProof(code) {
  return sha256(VERSION, ' lookup', code);
}

// PKCS #8 around a raw X25519 key; WebCrypto imports private keys no other way.
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20);

/** A fresh key pair as raw bytes {ps, pp}. Throws where the browser has no X25519. */
export async function newKeys() {
  const pair = await crypto.subtle.generateKey({ name: 'X25519' }, true, ['deriveBits']);
  const pp = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey('pkcs8', pair.privateKey));
  return { ps: pkcs8.slice(-32), pp };
}

async function agree(ps, hp) {
  if (hp.length !== 32) throw new Malformed('not a key');
  const secret = await crypto.subtle.importKey('pkcs8', concat(PKCS8, ps), { name: 'X25519' }, false, ['deriveBits']);
  const theirs = await crypto.subtle.importKey('raw', hp, { name: 'X25519' }, false, []);
  let bits;
  try {
    bits = new Uint8Array(await crypto.subtle.deriveBits({ name: 'X25519', public: theirs }, secret, 256));
  } catch {
    throw new Malformed('a key of small order');
  }
  if (bits.every((x) => x === 0)) throw new Malformed('a key of small order');
  return crypto.subtle.importKey('raw', bits, 'HKDF', false, ['deriveKey']);
}

/**
 * What phone and host share about one attempt. dir is "p2h" or "h2p"; a box
 * opens only under the kind, direction, number and type it was sealed for.
 */
export class Boxes {
  static async derive(kind, { ps, pp }, hp) {
    const id = await idOf(hp);
    const ikm = await agree(ps, hp);
    const salt = await sha256(lengthPrefixed(VERSION, kind, id, hp, pp));
    const key = (dir, use) => crypto.subtle.deriveKey(
      { name: 'HKDF', hash: 'SHA-256', salt, info: bytes(`${VERSION} ${dir}`) },
      ikm, { name: 'AES-GCM', length: 256 }, false, use);
    const boxes = new Boxes();
    Object.assign(boxes, { kind, id, pp, keys: { p2h: await key('p2h', ['encrypt', 'decrypt']), h2p: await key('h2p', ['encrypt', 'decrypt']) } });
    return boxes;
  }

  #aad(dir, seq, type) {
    return lengthPrefixed(VERSION, this.kind, this.id, this.pp, dir, seq, type);
  }

  /** nonce is given by tests only. */
  async seal(dir, seq, type, message, nonce = crypto.getRandomValues(new Uint8Array(NONCE))) {
    const json = bytes(JSON.stringify(message));
    const padded = new Uint8Array(Math.ceil(json.length / PADDING) * PADDING).fill(0x20);
    padded.set(json);
    const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce, additionalData: this.#aad(dir, seq, type) }, this.keys[dir], padded);
    return base64(concat(nonce, new Uint8Array(sealed)));
  }

  async open(dir, seq, type, box) {
    const raw = fromBase64(box);
    if (raw.length < NONCE + 16) throw new Malformed('a box too short');
    let plain;
    try {
      plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: raw.slice(0, NONCE), additionalData: this.#aad(dir, seq, type) }, this.keys[dir], raw.slice(NONCE));
    } catch {
      throw new Malformed('a box that does not open');
    }
    if (plain.byteLength % PADDING !== 0) throw new Malformed('a box without padding');
    try {
      const message = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(plain));
      if (message === null || typeof message !== 'object' || Array.isArray(message)) throw new Malformed();
      return message;
    } catch {
      throw new Malformed('a box without an object');
    }
  }
}

/**
 * TL or TE: what the passkey signs. shown holds the fields as the person sees
 * them, by name; user_handle is base64url there and bytes in the transcript.
 */
export function transcript(kind, shown, id, hp, pp) {
  const fields = kind === 'enroll' ? ENROL_FIELDS : LOGIN_FIELDS;
  const values = fields.map((name) => {
    if (typeof shown[name] !== 'string') throw new Malformed(`no ${name}`);
    return name === 'user_handle' ? fromBase64url(shown[name]) : shown[name];
  });
  return sha256(lengthPrefixed(VERSION, kind, ...values, id, hp, pp));
}

/** What the second signature of an enrolment is over: the first signs nothing. */
export function enrolProof(te, attestationObject) {
  return sha256(lengthPrefixed(VERSION, 'enroll-proof', te, attestationObject));
}

/** The details as strings by name; malformed unless each is printable ASCII of at most 255. */
export function fieldsOf(details) {
  const kind = details.kind;
  if (kind !== 'login' && kind !== 'enroll') throw new Malformed('unknown kind');
  const out = {};
  for (const name of kind === 'enroll' ? ENROL_FIELDS : LOGIN_FIELDS) {
    const value = name === 'start' && Number.isSafeInteger(details[name]) ? String(details[name]) : details[name];
    if (typeof value !== 'string' || !/^[\x20-\x7e]{0,255}$/.test(value)) throw new Malformed(`bad ${name}`);
    out[name] = value;
  }
  if (!/^\d{1,15}$/.test(out.start)) throw new Malformed('bad start');
  if (kind === 'enroll') fromBase64url(out.user_handle);
  return out;
}
