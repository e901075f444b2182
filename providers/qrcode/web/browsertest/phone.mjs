// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Plays the phone in a headless browser. It reads one JSON object a line from
// standard input, {id, do, ...}, answers each by {id, value} or {id, error},
// and ends with its input. Package browsertest drives it.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

let options = JSON.parse(process.argv[2]);
let problems; // what must not happen on the page, whatever the test is about
let origins; // that the page may ask
let visited; // origin -> number of requests
let context;
let page;
let cdp;
let authenticator;

const browser = await chromium.launch({
  executablePath: options.chromium,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    `--host-resolver-rules=${[...(options.resolve ?? []), 'MAP * ~NOTFOUND', 'EXCLUDE localhost', 'EXCLUDE 127.0.0.1'].join(' , ')}`,
    '--use-fake-device-for-media-stream', `--use-file-for-fake-video-capture=${options.video}`,
    ...(options.args ?? []),
  ],
});

/** Makes a phone of the browser: with storage, a page and an authenticator of its own. */
async function begin() {
  [problems, origins, visited, authenticator] = [[], new Set(options.allow ?? []), new Map(), undefined];
  await newContext();
  const mine = problems; // a page that is closing may still complain
  page = await context.newPage();
  page.setDefaultTimeout(options.timeout ?? 20000);
  page.on('pageerror', (e) => mine.push(`script error: ${e.message}`));
  page.on('console', (m) => {
    // A resource that is not there is part of many tests; the rest is not.
    if (m.type() === 'error' && !/Failed to load resource|net::ERR_/.test(m.text())) mine.push(`console: ${m.text()}`);
  });
  cdp = await context.newCDPSession(page);
  await cdp.send('WebAuthn.enable');
  if (!options.noAuthenticator) await addAuthenticator();
}

async function newContext() {
  context = await browser.newContext({
    viewport: options.desktop ? { width: 1280, height: 800 } : { width: 390, height: 844 },
    hasTouch: !options.desktop, isMobile: !options.desktop, deviceScaleFactor: options.desktop ? 1 : 2,
    colorScheme: options.dark ? 'dark' : 'light', reducedMotion: 'reduce', locale: 'en-GB', ignoreHTTPSErrors: !!options.ignoreCertificates,
    permissions: options.noCamera ? [] : ['camera'],
  });
  await context.exposeBinding('cspViolation', (_, text) => problems.push(`content security policy: ${text}`));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => globalThis.cspViolation(`${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
  });
  for (const source of options.scripts ?? []) await context.addInitScript(source);
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol === 'data:' || url.protocol === 'blob:') return;
    visited.set(url.origin, (visited.get(url.origin) ?? 0) + 1);
    if (!origins.has(url.origin)) problems.push(`request to a foreign origin: ${url.origin}${url.pathname}`);
  });
}

async function addAuthenticator({ verified = true } = {}) {
  if (authenticator) await cdp.send('WebAuthn.removeVirtualAuthenticator', { authenticatorId: authenticator });
  ({ authenticatorId: authenticator } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true,
      isUserVerified: verified, automaticPresenceSimulation: true,
    },
  }));
}
await begin();

// A screen that a camera sees, in a context of its own: none of its requests or
// mistakes are the page's.
let studio;
async function photograph({ text, font, lineHeight, light, tilted, size }) {
  studio ??= await (await browser.newContext({ viewport: { width: 1280, height: 720 } })).newPage();
  const ground = light ? '#fdf6e3' : '#10151a';
  const ink = light ? '#2b2b2b' : '#e6e6e6';
  const camera = tilted ? 'transform: perspective(1100px) rotateX(12deg) rotateY(-14deg) rotateZ(4deg); filter: blur(.7px) contrast(.65);' : '';
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  await studio.setContent(`<body style="margin:0;height:100vh;display:grid;place-items:center;background:${tilted ? '#777' : ground};overflow:hidden">
    <pre style="margin:0;padding:12px;background:${ground};color:${ink};font:${size}px '${font}',monospace;line-height:${lineHeight};${camera}"></pre>`);
  await studio.evaluate((html) => { document.querySelector('pre').innerHTML = html; }, escaped);
  return (await studio.screenshot({ type: 'png' })).toString('base64');
}

const commands = {
  photograph,
  /** Another phone takes this one's place. */
  async again({ settings }) {
    await context.close();
    options = settings;
    await begin();
  },
  async open({ url, clear, early }) {
    origins.add(new URL(url).origin);
    // A link from the camera app opens a page of its own, even where only the
    // fragment is another.
    if (clear) await page.goto('about:blank');
    await page.goto(url, { waitUntil: early ? 'commit' : 'load' });
  },
  reload: () => page.reload({ waitUntil: 'load' }),
  back: () => page.goBack(),
  url: () => page.url(),
  // Between two pages there is none.
  state: () => page.evaluate(() => document.documentElement.dataset.state ?? '').catch(() => ''),
  async wait({ states, timeout }) {
    const last = { state: '' };
    try {
      const handle = await page.waitForFunction((want) => {
        const s = document.documentElement.dataset.state;
        return want.includes(s) ? s : null;
      }, states, { timeout, polling: 20 });
      return await handle.jsonValue();
    } catch (e) {
      last.state = await page.evaluate(() => document.documentElement.dataset.state).catch(() => '?');
      throw new Error(`state is ${last.state}, not ${states.join(' or ')}: ${e.message.split('\n')[0]}`);
    }
  },
  waitText: async ({ selector }) => {
    await page.waitForFunction((sel) => document.querySelector(sel)?.textContent !== '', selector, { polling: 20 });
  },
  click: ({ selector }) => page.locator(selector).locator('visible=true').first().click(),
  press: ({ key }) => page.keyboard.press(key),
  fill: ({ selector, text }) => page.fill(selector, text),
  text: ({ selector }) => page.locator(selector).locator('visible=true').first().innerText(),
  content: ({ selector }) => page.locator(selector).first().textContent(),
  attribute: ({ selector, name }) => page.locator(selector).first().getAttribute(name),
  fields: () => page.evaluate(() => Object.fromEntries([...document.querySelectorAll('[data-view]:not([hidden]) [data-field]')].map((e) => [e.dataset.field, e.textContent]))),
  eval: ({ script }) => page.evaluate(script),
  focus: () => page.evaluate(() => {
    const e = document.activeElement;
    return e ? (e.dataset.do || e.id || `${e.tagName.toLowerCase()}: ${e.textContent.trim()}`) : '';
  }),
  async screenshot({ path }) {
    await page.screenshot({ path, scale: 'device' });
  },
  /** Four pictures, of two screens in two shades; each setting is changed as seldom as can be. */
  async screenshots({ base }) {
    const viewport = page.viewportSize();
    const shades = ['light', 'dark'];
    for (const [kind, width, height] of [['', 390, 844], ['-desktop', 1280, 800]]) {
      await page.setViewportSize({ width, height });
      for (const shade of shades) {
        await page.emulateMedia({ colorScheme: shade });
        // Twice the pixels on a phone, as phones have them.
        await page.screenshot({ path: `${base}${kind}-${shade}.png`, scale: kind ? 'css' : 'device' });
      }
      shades.reverse();
    }
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme: options.dark ? 'dark' : 'light' });
  },
  media: ({ dark }) => page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' }),
  offline: ({ on }) => context.setOffline(on),
  camera: ({ on }) => (on ? context.grantPermissions(['camera']) : context.clearPermissions()),
  // Runs in a world of its own through the debugger, past the page's policy.
  async axe({ colours }) {
    const require = createRequire(import.meta.url);
    const { source } = require('axe-core');
    if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(source);
    const what = { resultTypes: ['violations'], ...(colours ? { runOnly: { type: 'tag', values: ['cat.color'] } } : {}) };
    const { violations } = await page.evaluate((o) => globalThis.axe.run(document, o), what);
    return violations.map((v) => ({ id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map((n) => n.html.slice(0, 200)) }));
  },
  // What a small phone cuts off, and what is too small for a thumb.
  async fit() {
    const viewport = page.viewportSize();
    await page.setViewportSize({ width: 320, height: 568 });
    const found = await page.evaluate(() => {
      const wide = document.scrollingElement.scrollWidth;
      const small = [...document.querySelectorAll('button, a, input, summary')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 44);
      return [...(wide > 320 ? [`${wide} pixels wide`] : []), ...small.map((e) => `small: ${e.outerHTML.slice(0, 100)}`)];
    });
    await page.setViewportSize(viewport);
    return found;
  },
  async installable() {
    const { installabilityErrors } = await cdp.send('Page.getInstallabilityErrors');
    const { errors } = await cdp.send('Page.getAppManifest');
    // Every test's browser is a private one, which installs nothing.
    return [...installabilityErrors.map((e) => e.errorId).filter((e) => e !== 'in-incognito'), ...errors.map((e) => e.message)];
  },
  authenticator: addAuthenticator,
  verified: ({ on }) => cdp.send('WebAuthn.setUserVerified', { authenticatorId: authenticator, isUserVerified: on }),
  present: ({ on }) => cdp.send('WebAuthn.setAutomaticPresenceSimulation', { authenticatorId: authenticator, enabled: on }),
  credentials: async () => (await cdp.send('WebAuthn.getCredentials', { authenticatorId: authenticator })).credentials,
  putCredential: ({ credential }) => cdp.send('WebAuthn.addCredential', { authenticatorId: authenticator, credential }),
  clearCredentials: () => cdp.send('WebAuthn.clearCredentials', { authenticatorId: authenticator }),
  forget: () => page.evaluate(() => { localStorage.clear(); sessionStorage.clear(); }),
  problems: () => problems,
  requests: () => Object.fromEntries(visited),
  version: () => browser.version(),
};

let queue = Promise.resolve();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function carryOut(line) {
  const { id, do: name, ...args } = JSON.parse(line);
  try {
    const value = await commands[name](args);
    say({ id, value: value ?? null });
  } catch (e) {
    say({ id, error: e.message });
  }
}

const input = createInterface({ input: process.stdin });
input.on('line', (line) => { queue = queue.then(() => carryOut(line)); });
input.on('close', () => {
  queue.finally(async () => {
    await browser.close().catch(() => {});
    process.exit(0);
  });
});
say({ id: 0, value: browser.version() });
