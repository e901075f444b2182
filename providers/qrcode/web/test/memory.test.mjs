// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { block, news } from '../static/memory.js';

test('addresses of one site are one place', () => {
  for (const [address, want] of Object.entries({
    '192.0.2.7': '192.0.2.0/24',
    '192.0.2.200': '192.0.2.0/24',
    '::ffff:192.0.2.7': '192.0.2.0/24',
    '2001:db8:1:2:3:4:5:6': '2001:db8:1::/48',
    '2001:DB8:1::7': '2001:db8:1::/48',
    '2001:0db8:0001:ffff::': '2001:db8:1::/48',
    '2001:db8::7': '2001:db8:0::/48',
    'fe80::1%eth0': 'fe80:0:0::/48',
    '::1': '0:0:0::/48',
    'laptop.example.com': 'laptop.example.com',
    '': '',
    '(unprintable)': '(unprintable)',
  })) assert.equal(block(address), want, address);
});

test('everything is new where nothing can be kept', () => {
  assert.deepEqual(news({ host: 'db7', account: 'alice', rhost: '192.0.2.7' }), ['host', 'account', 'rhost']);
});
