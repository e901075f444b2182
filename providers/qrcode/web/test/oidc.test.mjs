// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerIn, issuerURL } from '../static/oidc.js';

const issuers = ['https://id.example.com', 'http://localhost:9000', 'http://id.example.com', 'nonsense'];

test('people are sent to listed issuers only', () => {
  for (const good of ['https://id.example.com/auth', 'http://localhost:9000/auth', 'HTTPS://ID.EXAMPLE.COM/auth', 'https://id.example.com:443/']) {
    assert.ok(issuerURL({ authorize_url: good }, issuers), good);
  }
  for (const bad of ['http://id.example.com/auth', 'https://id.example.com.evil.example/', 'https://id.example.com:8443/', 'https://evil.example/?https://id.example.com',
    'https://id.example.com@evil.example/', 'https://a:b@id.example.com/', 'javascript:alert(1)', 'data:text/html,x', '//id.example.com', '/auth', '', undefined, null, 7, {}]) {
    assert.equal(issuerURL({ authorize_url: bad }, issuers), null, String(bad));
  }
  assert.equal(issuerURL({ authorize_url: 'https://id.example.com/' }, []), null);
});

test('of a whole address that is listed, no other path or query is one', () => {
  const listed = ['https://id.example.com/oauth2/authorize', 'https://b2c.example.com/auth?p=signin'];
  const at = (authorize_url) => issuerURL({ authorize_url }, listed)?.href ?? null;
  for (const listing of listed) assert.equal(at(listing), listing);
  for (const bad of ['https://id.example.com/logout', 'https://id.example.com/', 'https://id.example.com/oauth2/authorize/', 'https://id.example.com/oauth2/authorize/../x',
    'https://b2c.example.com/auth', 'https://b2c.example.com/auth?p=other', 'https://b2c.example.com/auth?p=signin&p=other']) assert.equal(at(bad), null, bad);
});

test('nothing of the host\'s query or fragment goes to an issuer', () => {
  const at = (authorize_url, listed) => issuerURL({ authorize_url }, [listed]).href;
  const bad = 'https://id.example.com/auth?request_uri=https%3A%2F%2Fevil.example&id_token_hint=x#f';
  assert.equal(at(bad, 'https://id.example.com'), 'https://id.example.com/auth');
  assert.equal(at(bad, 'https://id.example.com/auth'), 'https://id.example.com/auth');
});

test('an answer is read from the fragment first', () => {
  const answer = answerIn({ hash: '#code=a&state=b', search: '?code=c&state=d' });
  assert.deepEqual([answer.get('code'), answer.get('state')], ['a', 'b']);
  assert.equal(answerIn({ hash: '', search: '?error=access_denied' }).get('error'), 'access_denied');
  assert.equal(answerIn({ hash: '#A6RXZPAUECJ4RN2V3QNRB2DMWQTDOSWRNKUFH3IL37ALFODNDR6A', search: '' }), null);
  assert.equal(answerIn({ hash: '', search: '' }), null);
});
