// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Passkeys: the only place that talks to navigator.credentials.

import { base64url, fromBase64url } from './wire.js';

const ALGORITHMS = [-7, -8, -257]; // ES256, EdDSA, RS256
const PATIENCE = 90_000; // ms; a login waits no longer

export function supported() {
  return typeof PublicKeyCredential === 'function' && !!navigator.credentials;
}

/** What PublicKeyCredential.toJSON gives, also where the browser lacks it. */
function assertionJSON(credential) {
  if (typeof credential.toJSON === 'function') return credential.toJSON();
  const { response } = credential;
  const text = (buffer) => base64url(new Uint8Array(buffer));
  return {
    id: credential.id, rawId: text(credential.rawId), type: credential.type, clientExtensionResults: {},
    response: {
      clientDataJSON: text(response.clientDataJSON), authenticatorData: text(response.authenticatorData),
      signature: text(response.signature), ...(response.userHandle ? { userHandle: text(response.userHandle) } : {}),
    },
  };
}

/**
 * Asks for a passkey's signature over challenge. No credential is named for a
 * login: that would tell whether the account exists.
 */
export async function sign(rpId, challenge, { allow = [], signal } = {}) {
  const allowCredentials = allow.map((id) => ({ type: 'public-key', id }));
  const credential = await navigator.credentials.get({
    signal, publicKey: { challenge, rpId, allowCredentials, userVerification: 'required', timeout: PATIENCE },
  });
  return assertionJSON(credential);
}

/** Makes a passkey for subject; it proves nothing until it has signed. */
export async function make(rpId, challenge, { subject, userHandle, signal }) {
  const credential = await navigator.credentials.create({
    signal,
    publicKey: {
      challenge, timeout: PATIENCE, attestation: 'none',
      rp: { id: rpId, name: rpId },
      user: { id: fromBase64url(userHandle), name: subject, displayName: subject },
      pubKeyCredParams: ALGORITHMS.map((alg) => ({ type: 'public-key', alg })),
      authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
    },
  });
  return {
    rawId: new Uint8Array(credential.rawId),
    attestationObject: new Uint8Array(credential.response.attestationObject),
    clientDataJSON: new Uint8Array(credential.response.clientDataJSON),
  };
}
