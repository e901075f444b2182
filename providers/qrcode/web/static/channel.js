// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// One attempt as seen by this phone: numbers its messages, keeps what a reload
// needs, and turns the relay's answers into reasons.

import { Boxes, Malformed, base64, fromBase64, hex, idOf, lookupProof, newKeys, typedCode, VERSION } from './wire.js';

const SAVED = 'pam-authn.attempt';
const REQUEST_LIMIT = 40_000; // ms; the relay answers within 30 s
const HEADSTART = 250; // ms after which a message that left is taken to be there
const STALE = 600_000; // ms after which no attempt can be alive
const RETRIES = [300, 1000, 2500]; // ms between tries of the same bytes
const HASTE = 8_000; // ms for one relay of several, the first time round

/** Why an exchange failed; state names the page's view that says so. */
export class Failure extends Error {
  constructor(state, cause) {
    super(state, { cause });
    this.state = state;
  }
}

const BY_STATUS = { 404: 'gone', 409: 'busy', 413: 'trouble', 429: 'slow' };

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

async function once(url, body, signal, ms) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  const timer = setTimeout(stop, ms);
  signal?.addEventListener('abort', stop);
  try {
    return await ask(url, body, limit.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

async function ask(url, body, signal) {
  const answer = await fetch(url, {
    method: 'POST', body, signal, headers: { 'Content-Type': 'application/json' },
    credentials: 'omit', cache: 'no-store', redirect: 'error', referrerPolicy: 'no-referrer',
  });
  if (answer.status === 502 || answer.status === 503 || answer.status === 504) throw new TypeError('relay away');
  if (!answer.ok) throw new Failure(BY_STATUS[answer.status] ?? 'trouble');
  try {
    return await answer.json();
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new Failure('trouble', cause);
    throw cause;
  }
}

/**
 * Posts the same bytes until an answer comes. waiting(true) is told while none
 * does, and flying(true) while the bytes are on their way. With haste, a number
 * of milliseconds, there is one try of that length.
 */
async function post(url, body, { signal, waiting = () => {}, flying = () => {}, haste } = {}) {
  for (let i = 0; ; i++) {
    flying(true);
    try {
      const answer = await once(url, body, signal, haste ?? REQUEST_LIMIT);
      waiting(false);
      return answer;
    } catch (e) {
      flying(false);
      if (e instanceof Failure) throw e;
      if (signal?.aborted) throw new Failure('aborted', e);
      if (haste || i >= RETRIES.length) throw new Failure('offline', e);
      waiting(true);
      await pause(RETRIES[i]);
    }
  }
}

// What says most, where each relay fails in its own way: a relay that is slow or
// away may be the one that knows the attempt.
const TELLING = ['slow', 'offline', 'trouble', 'gone'];

/**
 * Posts to the first relay that knows the attempt, and says which it was. One
 * that is away must not keep the others from being asked: several are asked in
 * haste first, then those that did not answer with patience.
 */
async function postAny(relays, path, body, { haste = HASTE, ...options } = {}) {
  const failures = new Map(); // by relay
  for (const round of relays.length > 1 ? [{ haste }, {}] : [{}]) {
    for (const relay of relays) {
      if (failures.has(relay) && failures.get(relay).state !== 'offline') continue;
      try {
        return { relay, answer: await post(`${relay}/api/1/${path}`, body, { ...options, ...round }) };
      } catch (e) {
        if (!TELLING.includes(e.state)) throw e;
        failures.set(relay, e);
      }
    }
  }
  const rank = (e) => TELLING.indexOf(e.state);
  throw [...failures.values()].sort((a, b) => rank(a) - rank(b))[0];
}

/** The host's key for a typed code. */
export async function lookUp(relays, code, options) {
  const proof = base64(await lookupProof(code));
  const loc = code.slice(0, 5);
  const { answer } = await postAny(relays, loc, JSON.stringify({ type: 'lookup', loc, proof }), options);
  try {
    const hp = fromBase64(answer.hp);
    if (hp.length === 32 && await typedCode(hp) === code) return hp;
  } catch { /* said below */ }
  throw new Failure('not-ours');
}

const ENDS = ['in', 'refused', 'expired', 'host_gone'];
const ANSWERS = { hello: 'details', passkey: 'verdict', oidc: 'verdict', enroll: 'verdict', enroll_oidc: 'verdict', wait: 'end', refuse: 'end' };

export class Channel {
  #boxes;
  #state; // what a reload needs
  #kept = true; // whether it is saved
  #waiting;
  #flying = new Map(); // number -> when its bytes left, Infinity if they failed to
  #stop = new AbortController();

  /** Says hello to the host that holds hp and opens what it answers. */
  static async open(relays, hp, { sha1, typed = false, waiting } = {}) {
    let keys;
    try {
      keys = await newKeys();
    } catch (cause) {
      throw new Failure('unsupported', cause);
    }
    const id = await idOf(hp);
    const hello = JSON.stringify({ seq: 0, type: 'hello', v: VERSION, id: hex(id), pp: base64(keys.pp), ...(sha1 ? { sha1 } : {}) });
    const { relay, answer } = await postAny(relays, hex(id), hello, { waiting });
    const channel = new Channel();
    channel.#waiting = waiting;
    // A link does not say what it is for: whatever opens the answer does.
    for (const kind of typed ? ['login'] : ['login', 'enroll']) {
      try {
        channel.#boxes = await Boxes.derive(kind, keys, hp);
        const details = await channel.#boxes.open('h2p', 0, 'details', answer.box);
        if (details.kind !== kind) break;
        channel.#state = { relay, kind, hp: base64(hp), ps: base64(keys.ps), pp: base64(keys.pp), seq: 0, details, got: Date.now() };
        channel.#save();
        return channel;
      } catch (e) {
        if (!(e instanceof Malformed)) throw e;
      }
    }
    throw new Failure('not-ours');
  }

  /**
   * The attempt that this tab was in before it was loaded anew, or null. Once
   * takes it out of the tab's storage, for good: see [Channel.keep].
   */
  static async resume({ waiting, once: only = false } = {}) {
    const text = read(SAVED);
    if (!text) return null;
    if (only) forget(SAVED);
    try {
      const channel = new Channel();
      channel.#waiting = waiting;
      channel.#state = JSON.parse(text);
      channel.#kept = !only;
      const s = channel.#state;
      if (Date.now() - s.got > STALE) throw new Malformed('long over');
      channel.#boxes = await Boxes.derive(s.kind, { ps: fromBase64(s.ps), pp: fromBase64(s.pp) }, fromBase64(s.hp));
      return channel;
    } catch {
      forget(SAVED);
      return null;
    }
  }

  get kind() { return this.#state.kind; }
  get details() { return this.#state.details; }
  get id() { return this.#boxes.id; }
  get hp() { return fromBase64(this.#state.hp); }
  get pp() { return this.#boxes.pp; }
  get got() { return this.#state.got; }
  /** Whether the host took an approval of this phone's. */
  get approved() { return this.#state.approved === true; }
  /**
   * The type of the message that a page loaded anew must send again: one that
   * got no answer, or the approval, whose answer holds digits that no storage does.
   */
  get pending() { return this.#state.pending?.type; }

  /** Saves the attempt, for a way that leads off the page and back. */
  keep() {
    this.#kept = true;
    this.#save();
  }

  /** Seals message, sends it with the next number and opens the answer. */
  async send(type, message) {
    const seq = ++this.#state.seq;
    const box = await this.#boxes.seal('p2h', seq, type, message);
    const body = JSON.stringify({ seq, type, pp: this.#state.pp, box });
    // A wait says nothing: one that got no answer may be asked again as another.
    this.#state[type === 'wait' ? 'poll' : 'pending'] = { seq, type, body };
    this.#save();
    return this.#exchange(seq, type, body);
  }

  /** Sends again, byte for byte, what [Channel.pending] names. */
  async again() {
    const { seq, type, body } = this.#state.pending;
    return this.#exchange(seq, type, body);
  }

  /**
   * Polls until the attempt ends and resolves to how. News that is no end, as
   * wrong digits at the terminal, goes to told.
   */
  async ended(told) {
    for (;;) {
      const poll = this.#state.poll;
      const { result } = poll ? await this.#exchange(poll.seq, poll.type, poll.body) : await this.send('wait', {});
      if (ENDS.includes(result)) return result;
      if (result) told(result);
    }
  }

  /** Ends what is under way; a later load of the page goes on from here. */
  stop() {
    this.#stop.abort();
  }

  /** Ends what is under way and forgets the keys. */
  close() {
    this.stop();
    forget(SAVED);
  }

  async #exchange(seq, type, body) {
    await this.#inOrder(seq);
    const flying = (on) => { this.#flying.set(seq, on ? Date.now() : Infinity); };
    const answer = await post(`${this.#state.relay}/api/1/${hex(this.#boxes.id)}`, body, { signal: this.#stop.signal, waiting: this.#waiting, flying });
    let message;
    try {
      message = await this.#boxes.open('h2p', seq, ANSWERS[type], answer.box);
    } catch (cause) {
      throw new Failure('not-ours', cause);
    }
    if (ANSWERS[type] === 'verdict' && message.ok === true) {
      this.#state.approved = true;
      if (this.#state.pending?.seq === seq) this.#state.pending.answered = true;
    } else delete this.#state[type === 'wait' ? 'poll' : 'pending'];
    if (!this.#stop.signal.aborted) this.#save();
    return message;
  }

  /**
   * Waits until what has a lower number is surely at the host, which takes
   * numbers in order, while two connections may race.
   */
  async #inOrder(seq) {
    const { poll, pending } = this.#state;
    const patience = Date.now() + RETRIES.reduce((a, b) => a + b, HEADSTART);
    const behind = (m) => m && !m.answered && m.seq < seq && (m === this.#state.poll || m === this.#state.pending)
      && !(Date.now() - this.#flying.get(m.seq) >= HEADSTART);
    while (behind(poll) || behind(pending)) {
      if (this.#stop.signal.aborted) throw new Failure('aborted');
      if (Date.now() > patience) throw new Failure('offline');
      await pause(25);
    }
  }

  #save() {
    if (this.#kept) keep(SAVED, JSON.stringify(this.#state));
  }
}

// Storage may be switched off; a reload then starts anew.
export function keep(key, text) {
  try {
    sessionStorage.setItem(key, text);
    return true;
  } catch {
    return false;
  }
}

export function read(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

export function forget(key) {
  try {
    sessionStorage.removeItem(key);
  } catch { /* nothing was kept */ }
}
