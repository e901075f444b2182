// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { Failure, lookUp } from '../static/channel.js';

const names = JSON.parse(readFileSync(new URL('../../internal/wire/testdata/golden/names.json', import.meta.url)));
const servers = [];

after(() => servers.forEach((s) => {
  s.closeAllConnections();
  s.close();
}));

/** A relay that answers every post alike, or never where status is 0. */
async function relay(status, body = {}) {
  const server = createServer((request, response) => {
    server.asked++;
    if (status) response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  });
  server.asked = 0;
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.url = `http://127.0.0.1:${server.address().port}`;
  return server;
}

/** An address where nothing listens. */
async function nothing() {
  const server = await relay(200);
  server.close();
  await once(server, 'close');
  return server;
}

const knows = () => relay(200, { hp: names.hp_base64 });
const ask = (...relays) => lookUp(relays.map((r) => r.url), names.typed, { haste: 300 });
const failed = (state) => (e) => e instanceof Failure && e.state === state;

test('a relay that is away, slow, in trouble or ignorant keeps no other from being asked', async () => {
  for (const first of [await nothing(), await relay(0), await relay(503), await relay(429), await relay(500), await relay(404)]) {
    const second = await knows();
    assert.equal(Buffer.from(await ask(first, second)).toString('base64'), names.hp_base64);
    assert.equal(second.asked, 1);
  }
});

test('too many phones are too many at every relay', async () => {
  const second = await knows();
  await assert.rejects(ask(await relay(409), second), failed('busy'));
  assert.equal(second.asked, 0);
});

test('of several failures the most telling one is said', async () => {
  await assert.rejects(ask(await relay(429), await relay(404)), failed('slow'));
  await assert.rejects(ask(await relay(404), await relay(429)), failed('slow'));
  await assert.rejects(ask(await relay(500), await relay(404)), failed('trouble'));
  await assert.rejects(ask(await relay(404), await relay(404)), failed('gone'));
});

test('a relay that may know more is tried again, the others are not', async () => {
  const ignorant = await relay(404);
  const away = await relay(503);
  await assert.rejects(ask(away, ignorant), failed('offline'));
  assert.equal(ignorant.asked, 1);
  assert.ok(away.asked > 2, `${away.asked} tries`);
});
