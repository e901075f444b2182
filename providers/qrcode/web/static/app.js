// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// The approver page: what is shown when, and what each button does.

import { Channel, Failure, lookUp } from './channel.js';
import * as memory from './memory.js';
import * as oidc from './oidc.js';
import * as passkey from './passkey.js';
import * as scanner from './scan.js';
import * as view from './view.js';
import { base64, base64url, enrolProof, fieldsOf, hex, idOf, keyFromFragment, Malformed, parseScanned, parseTyped, transcript } from './wire.js';

const ENDINGS = new Map([['refused', 'refused'], ['expired', 'expired'], ['host_gone', 'host-gone']]);

const SETTINGS_LIMIT = 8_000; // ms for config.json

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
const waiting = (on) => view.banner(on);

let settings; // of /config.json
let attempt = null; // {channel, fields, container, show, ...} that is under way
let agreed = () => {}; // what the second tap goes on with
let retry = restart; // what Try again does
let stopCamera = () => {};

/** Runs what a person or the address began; every failure ends in a view. */
async function run(action) {
  const mine = attempt;
  try {
    await action();
  } catch (e) {
    if (mine?.over) return; // its end is on the screen already
    if (e instanceof Malformed) fail('not-ours');
    else if (e instanceof Failure && e.state === 'gone' && attempt?.channel.approved) lost(attempt);
    else if (e instanceof Failure) fail(e.state);
    else {
      console.error(e);
      fail('trouble');
    }
  }
}

function fail(state) {
  if (state === 'aborted') return;
  waiting(false);
  if (state !== 'offline' && state !== 'slow') leave();
  view.show(state);
}

/** Ends this device's part in the attempt, if there is one. */
function leave() {
  attempt?.channel.close();
  attempt?.prompt?.abort(); // a prompt for a passkey that nobody waits for
  drop();
}

/** Takes the attempt, and its digits, off the page. */
function drop() {
  clearInterval(attempt?.clock);
  for (const name of ['digits', 'enrol-digits']) view.showDigits(document.getElementById(name), '');
  attempt = null;
}

function busyWith(words) {
  view.set('doing', words);
  view.show('loading');
}

/** As loading the page anew, but without needing the network for it. */
function restart() {
  attempt?.channel.stop();
  drop();
  busyWith('Opening the code.');
  return run(boot);
}

// --- Where the address leads ---

async function boot() {
  view.set('origin', location.host);
  if (!window.isSecureContext) {
    view.set('secure', `https://${location.hostname}/`);
    return view.show('insecure');
  }
  if (!globalThis.crypto?.subtle) return view.show('unsupported');
  settings ??= await readSettings();
  return route();
}

async function readSettings() {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), SETTINGS_LIMIT);
  try {
    const answer = await fetch('/config.json', { cache: 'no-store', credentials: 'omit', signal: limit.signal });
    if (!answer.ok) throw new Error(`config.json: ${answer.status}`);
    return await answer.json();
  } catch (e) {
    throw new Failure('offline', e);
  } finally {
    clearTimeout(timer);
  }
}

const relays = () => (settings.relays?.length ? settings.relays : [location.origin]);
const cleanAddress = () => history.replaceState(null, '', location.pathname);

async function route() {
  stopCamera();
  retry = () => run(boot);
  const answer = oidc.answerIn(location);
  if (answer) {
    cleanAddress();
    return comeBack(answer);
  }
  const hp = keyFromFragment(location.hash);
  if (hp) return begin(hp);
  if (location.hash.length > 1) throw new Failure('not-ours');
  const channel = await Channel.resume({ waiting });
  return channel ? goOn(channel) : view.show('home');
}

async function begin(hp, { sha1, typed } = {}) {
  retry = () => run(() => begin(hp, { sha1, typed }));
  leaveOther(hp);
  busyWith('Opening the code.');
  // A second look at the same code is no second device.
  const mine = await Channel.resume({ waiting });
  if (mine && base64(mine.hp) === base64(hp)) {
    cleanAddress();
    return goOn(mine);
  }
  try {
    const channel = await Channel.open(relays(), hp, { sha1, typed, waiting });
    cleanAddress();
    return await goOn(channel);
  } catch (e) {
    if (e.state === 'gone' && memory.wasUsed(hex(await idOf(hp)))) throw new Failure('used', e);
    throw e;
  }
}

function leaveOther(hp) {
  if (!attempt) return;
  if (base64(attempt.channel.hp) !== base64(hp)) return leave();
  attempt.channel.stop();
  return drop();
}

/** After an issuer sent the person back. */
async function comeBack(answer) {
  const back = oidc.arrive(answer);
  if (!back) throw new Failure('sent-link');
  const channel = await Channel.resume({ waiting, once: true });
  if (!channel || base64(channel.pp) !== back.pp) throw new Failure('gone');
  enter(channel);
  retry = () => run(again); // nothing is kept that another load could go on from
  if (!back.code) {
    attempt.show('The sign-in page did not vouch for you. Nothing was approved.');
    return follow();
  }
  follow();
  busyWith('Asking the other computer.');
  const type = channel.kind === 'enroll' ? 'enroll_oidc' : 'oidc';
  return take(await channel.send(type, { iss: back.iss, code: back.code }));
}

async function openTyped(text) {
  const code = parseTyped(text);
  if (!code) return view.note('code-error', 'That is not a whole code: it has twelve letters and digits, none of them a U.');
  view.note('code-error', '');
  retry = () => run(() => openTyped(text));
  busyWith('Looking for the terminal.');
  return begin(await lookUp(relays(), code, { waiting }), { typed: true });
}

// --- An attempt ---

/** Takes a channel whose details are known: new, or from before a reload. */
async function goOn(channel) {
  enter(channel);
  retry = restart;
  follow();
  return again();
}

/** Asks once more for the answer to what was sent; to nothing, the person is asked. */
async function again() {
  const { channel, show } = attempt;
  if (!channel.pending) return show();
  busyWith('Asking the other computer.');
  const answer = await channel.again();
  return answer.result ? finish(answer.result) : take(answer);
}

/** The fields of details that are fit to be shown, and meant for this very page. */
function checked(details) {
  const fields = fieldsOf(details);
  for (const [mine, theirs] of [[location.origin, fields.page_origin], [settings.rp_id, fields.rp_id]]) {
    if (mine === theirs) continue;
    view.set('other', theirs);
    throw new Failure('other-page');
  }
  return fields;
}

/** Puts what the host says on the page, unseen yet. */
function enter(channel) {
  const { details, kind } = channel;
  let fields;
  try {
    fields = checked(details);
  } catch (e) {
    channel.close();
    throw e;
  }
  const enrol = kind === 'enroll';
  const container = document.getElementById(enrol ? 'enrol-fields' : 'login-fields');
  attempt = { channel, enrol, container, fields: view.showFields(container, fields), show: enrol ? showEnrolment : showLogin };
  for (const name of ['host', 'account']) view.set(name, fields[name]);
  view.set('rp', fields.rp_id);
  view.only(kind);
  view.set('ref', /^[\x20-\x7e]{1,64}$/.test(details.ref ?? '') ? details.ref : 'none');
  offerMethods(details, enrol);
  tick();
  attempt.clock = setInterval(tick, 1000);
}

function offerMethods({ methods = [], oidc: issuers = [] }, enrol) {
  const keys = methods.includes('passkey') && passkey.supported();
  const others = methods.includes('oidc') ? issuers.filter(({ name }) => /^[\x20-\x7e]{1,64}$/.test(name)) : [];
  if (!keys && others.length === 0) throw new Failure('unsupported');
  view.button(enrol ? 'enrol' : 'passkey').hidden = !keys;
  view.button('prove').hidden = true;
  const words = enrol ? 'Enrol with' : 'Approve with';
  view.buttons(document.getElementById(enrol ? 'enrol-issuers' : 'issuers'),
    others.map((entry) => [`${words} ${entry.name}`, () => run(() => sure(() => signIn(entry)))]), keys ? '' : 'primary');
}

/** What changes with time. */
function tick() {
  const { channel, fields } = attempt;
  view.set('began', view.timeOf(Number(fields.start)));
  const { ttl } = channel.details;
  if (!Number.isSafeInteger(ttl)) return view.set('left', '');
  const left = Math.max(0, Math.round(ttl - (Date.now() - channel.got) / 1000));
  if (left === 20) view.announce('20 seconds left.');
  return view.set('left', left === 1 ? '1 second left' : `${left} seconds left`);
}

function showLogin(note = '') {
  view.note('details-note', note);
  view.show('details');
}

function showEnrolment(note = '') {
  view.note('enrol-note', note);
  view.show('enrol');
}

/** What the signature is over: the fields as they stand on the page now. */
function shownTranscript() {
  const { channel, container } = attempt;
  return transcript(channel.kind, view.shownFields(container), channel.id, channel.hp, channel.pp);
}

/** Asks for a second tap where this device never approved such a login. */
function sure(action) {
  const what = attempt.enrol ? [] : memory.news(attempt.fields);
  if (what.length === 0) return action();
  const { host, account, rhost } = attempt.fields;
  const words = {
    host: `the computer ${host}`, account: `the account ${account}`,
    rhost: rhost ? `a login from ${rhost}` : 'a login at the machine itself',
  };
  view.list(document.getElementById('news'), what.map((name) => words[name]));
  agreed = () => run(action);
  return view.show('new');
}

/** Waits for a signature; null, and a view that says so, if there is none. */
async function signed(sign) {
  view.set('doing', 'Waiting for your fingerprint, face or PIN.');
  view.show('asking');
  const mine = attempt;
  mine.prompt = new AbortController();
  try {
    const made = await sign(mine.prompt.signal);
    return attempt === mine ? made : null;
  } catch (e) {
    if (attempt === mine) view.show(mine.enrol ? 'not-confirmed' : 'no-passkey');
    if (e.name !== 'NotAllowedError' && e.name !== 'AbortError') console.warn(e.name);
    return null;
  }
}

async function approve() {
  const { channel, fields } = attempt;
  const tl = await shownTranscript();
  const assertion = await signed((signal) => passkey.sign(fields.rp_id, tl, { signal }));
  if (!assertion) return;
  busyWith('Asking the other computer.');
  take(await channel.send('passkey', { assertion }));
}

async function enrol() {
  const { fields } = attempt;
  const te = await shownTranscript();
  const made = await signed((signal) => passkey.make(fields.rp_id, te, { subject: fields.subject, userHandle: fields.user_handle, signal }));
  if (!made) return;
  attempt.made = { ...made, challenge: await enrolProof(te, made.attestationObject) };
  await prove();
}

async function prove() {
  const { channel, fields, made } = attempt;
  // Some browsers want a tap of its own for the second signature.
  view.button('enrol').hidden = true;
  view.button('prove').hidden = false;
  const assertion = await signed((signal) => passkey.sign(fields.rp_id, made.challenge, { allow: [made.rawId], signal }));
  if (!assertion) return;
  busyWith('Asking the other computer.');
  take(await channel.send('enroll', {
    attestationObject: base64url(made.attestationObject), clientDataJSON: base64url(made.clientDataJSON), assertion,
  }));
}

async function signIn(entry) {
  const url = oidc.issuerURL(entry, settings.issuers ?? []);
  if (!url) {
    view.set('other', String(entry.authorize_url).slice(0, 200));
    return view.show('bad-issuer');
  }
  const there = oidc.depart(url, entry, await shownTranscript(), { origin: location.origin, pp: base64(attempt.channel.pp) });
  if (!there) throw new Failure('trouble');
  busyWith(`Going to ${url.host}.`);
  attempt.channel.keep();
  attempt.channel.stop();
  return location.assign(there);
}

/** A verdict of the host's. */
function take(verdict) {
  if (!attempt) return;
  if (verdict.ok !== true || !/^\d{6}$/.test(verdict.code)) {
    view.set('ref', String(verdict.ref ?? attempt.channel.details.ref).replace(/[^\x20-\x7e]/g, '').slice(0, 64));
    view.show('not-accepted');
    return;
  }
  if (!attempt.enrol) memory.remember(attempt.fields);
  showCode(verdict.code);
}

function showCode(code) {
  const name = attempt.enrol ? 'enrol-digits' : 'digits';
  view.note(`${name}-note`, '');
  view.showDigits(document.getElementById(name), code);
  view.show(name);
  navigator.wakeLock?.request('screen').catch(() => {});
}

/** Hears how the attempt ends, whatever else goes on. */
async function follow() {
  const mine = attempt;
  while (attempt === mine) {
    try {
      return finish(await mine.channel.ended(tellNews), mine);
    } catch (e) {
      if (attempt !== mine || e.state === 'aborted') return undefined;
      if (e.state === 'gone') return lost(mine);
      if (e.state !== 'offline' && e.state !== 'slow') return fail(e.state ?? 'trouble');
      waiting(true);
      await pause(3000);
    }
  }
  return undefined;
}

function tellNews(result) {
  if (result !== 'wrong_code') return;
  view.note(attempt.enrol ? 'enrol-digits-note' : 'digits-note', 'Other digits were typed. Look again.');
}

function finish(result, mine = attempt) {
  if (attempt !== mine || !mine) return;
  waiting(false);
  memory.markUsed(hex(mine.channel.id));
  const { enrol: enrolled } = mine;
  mine.over = true;
  leave();
  view.show(result === 'in' ? (enrolled ? 'enrolled' : 'in') : ENDINGS.get(result) ?? 'over');
}

/** The relay knows the attempt no more, and nobody said why. */
function lost(mine) {
  waiting(false);
  const { channel } = mine;
  mine.over = true;
  const { ttl } = channel.details;
  const late = Date.now() - channel.got > 1000 * (Number.isSafeInteger(ttl) ? ttl : 100);
  memory.markUsed(hex(channel.id));
  leave();
  view.show(channel.approved ? 'over' : late ? 'expired' : 'host-gone');
}

async function refuse() {
  const { channel } = attempt;
  busyWith('Refusing.');
  await channel.send('refuse', {});
  finish('refused');
}

// --- Scanner ---

async function scan() {
  const video = document.getElementById('camera');
  const stop = new AbortController();
  view.note('scan-hint', '');
  view.show('scan');
  const decoders = await scanner.decoders();
  if (decoders.length === 0) return view.show('no-scanner');
  let close = () => {};
  stopCamera = () => {
    stop.abort();
    close();
  };
  try {
    close = await scanner.camera(video);
  } catch {
    return view.show('camera-denied');
  }
  const found = await scanner.read(video, decoders, (text) => {
    const code = parseScanned(text, location.origin);
    if (!code) view.note('scan-hint', 'That is a code, but not one of ours.');
    return code;
  }, stop.signal);
  stopCamera();
  if (!found) return undefined;
  if (found.origin) {
    view.set('other', found.origin);
    throw new Failure('other-page');
  }
  return begin(found.hp, found);
}

function home() {
  stopCamera();
  leave();
  cleanAddress();
  view.note('code-error', '');
  view.show('home');
}

const ACTIONS = {
  scan, home, approve, enrol, prove, refuse,
  passkey: () => sure(approve),
  confirm: () => agreed(),
  back: () => attempt.show(),
  reload: () => retry(),
  'forget-history': () => {
    memory.forgetAll();
    view.announce('Forgotten.');
  },
};

for (const b of document.querySelectorAll('[data-do]')) b.addEventListener('click', () => run(ACTIONS[b.dataset.do]));
document.getElementById('typed').addEventListener('submit', (event) => {
  event.preventDefault();
  run(() => openTyped(event.target.elements.code.value));
});
window.addEventListener('hashchange', () => run(route));
// The back button may bring a page back whose attempt went on elsewhere.
window.addEventListener('pageshow', (event) => event.persisted && restart());
document.documentElement.dataset.ready = ''; // watch.js looks for it
window.addEventListener('offline', () => waiting(true));
window.addEventListener('online', () => waiting(false));

run(boot);
