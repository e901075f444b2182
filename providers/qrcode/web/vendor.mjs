// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Copies the scanner libraries, with their licences, to where the page and
// go:embed find them. "npm run vendor" runs it.

import { cpSync, mkdirSync } from 'node:fs';

const FILES = {
  'jsqr/dist/jsQR.js': 'jsQR.js',
  'jsqr/LICENSE': 'jsQR.LICENSE',
  'qr/decode.js': 'qr/decode.js',
  'qr/index.js': 'qr/index.js',
  'qr/LICENSE': 'qr/LICENSE',
};

const from = new URL('node_modules/', import.meta.url);
const to = new URL('static/vendor/', import.meta.url);
mkdirSync(new URL('qr/', to), { recursive: true });
for (const [source, target] of Object.entries(FILES)) cpSync(new URL(source, from), new URL(target, to));
