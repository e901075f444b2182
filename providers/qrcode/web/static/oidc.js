// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// The way to an OpenID Connect issuer and back, in the same tab. Which
// attempt departed is kept in the tab's storage meanwhile, under a state that
// no link of somebody else's can know.

import { base64url } from './wire.js';
import { forget, keep, read } from './channel.js';

const PREFIX = 'pam-authn.oidc.';

function parsed(text) {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

/**
 * Where to send the person, or null where the page's own settings do not list
 * that place: a host must not make the page an open redirect. What is listed is
 * a whole authorization endpoint, or an origin for all that it has; then nothing
 * of the host's query goes along, since an issuer may heed parameters that the
 * protocol does not have.
 */
export function issuerURL(entry, issuers) {
  const url = parsed(entry.authorize_url);
  if (!url) return null;
  const local = url.hostname === 'localhost' || url.hostname === '127.0.0.1' || url.hostname === '[::1]';
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && local)) return null;
  if (url.username || url.password) return null;
  url.hash = '';
  const listed = issuers.map(parsed).filter((known) => known?.origin === url.origin);
  if (listed.some((known) => known.href === url.href)) return url;
  url.search = '';
  const whole = ({ pathname, search }) => pathname === '/' && search === '';
  return listed.some((known) => whole(known) || known.href === url.href) ? url : null;
}

/** Adds to url what an issuer must be asked, and notes who departs; null where nothing can be kept. */
export function depart(url, entry, transcript, { origin, pp }) {
  const state = base64url(crypto.getRandomValues(new Uint8Array(32)));
  const ask = {
    response_type: 'code', response_mode: 'fragment', client_id: entry.client_id, redirect_uri: `${origin}/`, scope: 'openid',
    state, nonce: base64url(transcript), max_age: '0', prompt: 'login', code_challenge: entry.code_challenge, code_challenge_method: 'S256',
  };
  for (const [name, value] of Object.entries(ask)) url.searchParams.set(name, value);
  if (!keep(PREFIX + state, JSON.stringify({ iss: entry.iss, pp }))) return null;
  return url;
}

/** The answer that an issuer's redirect put into this page's address, or null. */
export function answerIn({ hash, search }) {
  for (const text of [hash, search]) {
    const query = new URLSearchParams(text.replace(/^[#?]/, ''));
    if (query.has('code') || query.has('error') || query.has('state')) return query;
  }
  return null;
}

/**
 * What was kept for this answer, once: {iss, pp, code, error}; null where
 * nobody departed from here, or another issuer answers than the one asked.
 */
export function arrive(answer) {
  const key = PREFIX + (answer.get('state') ?? '');
  const text = read(key);
  forget(key);
  if (!text) return null;
  const { iss, pp } = JSON.parse(text);
  if (answer.has('iss') && answer.get('iss') !== iss) return null;
  return { iss, pp, code: answer.get('code'), error: answer.get('error') };
}
