// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Reads the golden messages that the host's side reads, too.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as wire from '../static/wire.js';

const golden = (name) => JSON.parse(readFileSync(new URL(`../../internal/wire/testdata/golden/${name}.json`, import.meta.url)));
const unhex = (s) => Uint8Array.from(s.match(/../g) ?? [], (x) => parseInt(x, 16));

const names = golden('names');
const hp = unhex(names.hp);
const phone = { ps: unhex(names.ps), pp: unhex(names.pp) };

test('names of a login are the host\'s', async () => {
  assert.equal(wire.VERSION, names.v);
  assert.equal(wire.hex(await wire.idOf(hp)), names.id);
  assert.equal(await wire.typedCode(hp), names.typed);
  assert.equal(wire.parseTyped(names.typed_shown), names.typed);
  assert.equal(names.typed.slice(0, 5), names.loc);
  assert.equal(wire.base64(await wire.lookupProof(names.typed)), names.proof);
  assert.equal(wire.hex(wire.lengthPrefixed(...names.lp.parts)), names.lp.hex);
  assert.equal(wire.base64(hp), names.hp_base64);
  assert.equal(`HTTPS://LOGIN.EXAMPLE.COM/1#${wire.base32(hp)}`, names.link);
});

test('a code is read however a camera or a person gives it', () => {
  const key = { hp };
  assert.deepEqual(wire.parseScanned(names.link, 'https://login.example.com'), key);
  assert.deepEqual(wire.parseScanned(names.link.toLowerCase(), 'https://login.example.com'), key);
  assert.deepEqual(wire.parseScanned(names.qrauth, 'https://any.example'), { hp, sha1: names.cid_sha1 });
  assert.deepEqual(wire.parseScanned(names.link, 'https://other.example'), { origin: 'https://login.example.com' });
  const typed = names.typed.replaceAll('0', 'o').replaceAll('1', 'l').toLowerCase();
  assert.equal(wire.parseTyped(` ${typed.slice(0, 4)} ${typed.slice(4, 8)}-${typed.slice(8)} `), names.typed);
});

test('what is no code of ours is not taken for one', () => {
  for (const text of ['', 'hello', 'https://login.example.com/1', 'https://login.example.com/1#AAAA', `${names.link}A`,
    names.link.replace('/1#', '/2#'), names.link.replace('/1#', '/1?x=1#'), names.link.replace('HTTPS:', 'javascript:'),
    names.qrauth.slice(0, -1), 'WIFI:T:WPA;S:x;P:y;;', names.link.slice(0, -1) + '7']) {
    assert.equal(wire.parseScanned(text, 'https://login.example.com'), null, text);
  }
  for (const code of ['', 'VYZ3RHTMAV3', 'VYZ3RHTMAV3SS', 'UYZ3RHTMAV3S', 'VYZ3RHTMAV3\u00df']) assert.equal(wire.parseTyped(code), null, code);
  for (const s of ['AA=', 'AB==', 'AAAA\n', 'A-AA', null, 'AAA=A']) assert.throws(() => wire.fromBase64(s), wire.Malformed);
});

test('boxes are the host\'s, byte for byte', async () => {
  for (const box of golden('boxes')) {
    const mine = await wire.Boxes.derive(box.kind, phone, hp);
    assert.deepEqual(await mine.open(box.dir, box.seq, box.type, box.box), box.plain, box.name);
    if (box.dir === 'p2h') assert.equal(await mine.seal(box.dir, box.seq, box.type, box.plain, unhex(box.nonce)), box.box, box.name);
  }
});

test('keys are derived as the host derives them', async () => {
  const keys = golden('keys');
  for (const kind of ['login', 'enroll']) {
    const boxes = await wire.Boxes.derive(kind, phone, hp);
    for (const dir of ['h2p', 'p2h']) {
      const key = await crypto.subtle.importKey('raw', unhex(keys[kind][dir]), 'AES-GCM', false, ['encrypt']);
      const nonce = new Uint8Array(12);
      const additionalData = wire.lengthPrefixed(wire.VERSION, kind, boxes.id, phone.pp, dir, 3, 'wait');
      const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv: nonce, additionalData }, key, wire.bytes('{}'.padEnd(512)));
      assert.equal(await boxes.seal(dir, 3, 'wait', {}, nonce), wire.base64(wire.concat(nonce, new Uint8Array(sealed))));
    }
  }
});

test('a box opens nowhere but where it belongs', async () => {
  const { boxes } = golden('invalid');
  assert.ok(boxes.length > 3);
  for (const box of boxes) {
    const mine = await wire.Boxes.derive(box.kind, phone, hp);
    await assert.rejects(mine.open(box.dir, box.seq, box.type, box.box), wire.Malformed, box.name);
  }
  const mine = await wire.Boxes.derive('login', phone, hp);
  await assert.rejects(mine.open('h2p', 0, 'details', 'AAAA'), wire.Malformed);
});

test('transcripts are the host\'s', async () => {
  const { transcripts, enroll_proof: proof } = golden('transcripts');
  for (const t of transcripts) {
    const id = await wire.idOf(hp);
    const sum = await wire.transcript(t.details.kind, wire.fieldsOf(t.details), id, hp, phone.pp);
    assert.equal(wire.hex(sum), t.transcript, t.name);
    assert.equal(wire.base64url(sum), t.nonce, t.name);
  }
  assert.equal(wire.hex(await wire.enrolProof(unhex(proof.te), unhex(proof.attestation_object))), proof.hash);
});

test('every field that is shown changes the transcript', async () => {
  for (const t of golden('transcripts').transcripts) {
    const { kind } = t.details;
    const fields = wire.fieldsOf(t.details);
    for (const name of kind === 'login' ? wire.LOGIN_FIELDS : wire.ENROL_FIELDS) {
      const other = { ...fields, [name]: name === 'user_handle' ? 'AAAA' : `${fields[name]}1` };
      const sum = await wire.transcript(kind, other, await wire.idOf(hp), hp, phone.pp);
      assert.notEqual(wire.hex(sum), t.transcript, `${t.name}: ${name}`);
    }
  }
});

test('details that could not be shown as they are, are refused', () => {
  const good = golden('transcripts').transcripts[0].details;
  for (const change of [{ host: 'a\u202eb' }, { account: 'a\nb' }, { rhost: 'x'.repeat(256) }, { tty: undefined }, { service: 7 }, { kind: 'root' }, { start: 'now' }, { start: '' }]) {
    assert.throws(() => wire.fieldsOf({ ...good, ...change }), wire.Malformed, JSON.stringify(change));
  }
});

test('a host\'s key of small order is refused', async () => {
  for (const key of [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31))]) {
    await assert.rejects(wire.Boxes.derive('login', phone, key), wire.Malformed);
  }
  await assert.rejects(wire.Boxes.derive('login', phone, hp.slice(1)), wire.Malformed);
});

test('keys are fresh each time, and good ones', async () => {
  const [a, b] = [await wire.newKeys(), await wire.newKeys()];
  assert.notDeepEqual(a.ps, b.ps);
  assert.equal(a.pp.length, 32);
  const mine = await wire.Boxes.derive('login', a, hp);
  assert.deepEqual(await mine.open('p2h', 1, 'wait', await mine.seal('p2h', 1, 'wait', { n: 1 })), { n: 1 });
  await assert.rejects((await wire.Boxes.derive('login', b, hp)).open('p2h', 1, 'wait', await mine.seal('p2h', 1, 'wait', {})), wire.Malformed);
});

test('what the host refuses to read, the phone does not read either', async () => {
  const bad = golden('invalid');
  for (const code of bad.typed) assert.equal(wire.parseTyped(code), null, code);
  for (const fragment of bad.fragment) assert.equal(wire.keyFromFragment(`#${fragment}`), null, fragment);
});

test('messages are padded to multiples of 512 bytes', async () => {
  const mine = await wire.Boxes.derive('login', phone, hp);
  for (const [text, want] of [['', 512], ['x'.repeat(480), 512], ['x'.repeat(512), 1024]]) {
    const box = await mine.seal('p2h', 1, 'passkey', { a: text });
    assert.equal(wire.fromBase64(box).length, want + 12 + 16);
  }
});
