// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// An OpenID Connect issuer for tests: npm's oidc-provider with a sign-in page
// that takes anybody's name. The first line of standard input is its settings;
// it prints one line, {url}, and ends with its input. Package browsertest starts
// it.

import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const input = createInterface({ input: process.stdin });
const { client, secret, redirects, key, cert } = JSON.parse(await new Promise((done) => { input.once('line', done); }));
input.on('close', () => process.exit(0));

const server = createServer({ key, cert });
await new Promise((done) => { server.listen(0, '127.0.0.1', done); });
const url = `https://localhost:${server.address().port}`;

const provider = new Provider(url, {
  clients: [{
    client_id: client, redirect_uris: redirects, response_types: ['code'], grant_types: ['authorization_code'],
    ...(secret ? { client_secret: secret } : { token_endpoint_auth_method: 'none' }),
  }],
  pkce: { required: () => true },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/sign-in/${interaction.uid}` },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  // Nobody is asked what the client may know: it is nothing but who they are.
  async loadExistingGrant(ctx) {
    const { clientId } = ctx.oidc.client;
    const grant = new ctx.oidc.provider.Grant({ accountId: ctx.oidc.session.accountId, clientId });
    grant.addOIDCScope('openid');
    await grant.save();
    return grant;
  },
});

const form = `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Sign in</title><h1>Sign in</h1>
<form method="post"><label>Name <input name="login" id="login"></label> <button id="sign-in">Sign in</button></form>
<form method="post"><button id="deny" name="deny" value="1">No</button></form>`;

async function signIn(request, response) {
  if (request.method !== 'POST') {
    response.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8' });
    return response.end(form);
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  const fields = new URLSearchParams(body);
  const result = fields.get('deny') ? { error: 'access_denied' } : { login: { accountId: fields.get('login') } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

const rest = provider.callback();
server.on('request', (request, response) => {
  if (!request.url.startsWith('/sign-in/')) return rest(request, response);
  return signIn(request, response).catch((e) => {
    console.error(e);
    response.writeHead(500).end();
  });
});

process.stdout.write(`${JSON.stringify({ url })}\n`);
