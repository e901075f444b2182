// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// The page's own scanner. Terminals on a light background show a negative code,
// so every decoder is tried in both polarities.

const EDGE = 720; // longest side of what is decoded, in pixels
const PAUSE = 40; // ms between frames

/** Gray values turned over, in place. */
function invert({ data }) {
  for (let i = 0; i < data.length; i += 4) {
    data[i] = 255 - data[i];
    data[i + 1] = 255 - data[i + 1];
    data[i + 2] = 255 - data[i + 2];
  }
}

async function jsQR() {
  await import('./vendor/jsQR.js');
  const decode = globalThis.jsQR;
  return (image) => decode(image.data, image.width, image.height, { inversionAttempts: 'attemptBoth' })?.data;
}

async function qr() {
  const { decodeQR } = await import('./vendor/qr/decode.js');
  const attempt = (image) => {
    try {
      return decodeQR(image);
    } catch {
      return undefined;
    }
  };
  return (image) => {
    const text = attempt(image);
    if (text) return text;
    invert(image);
    return attempt(image);
  };
}

async function native() {
  if (typeof BarcodeDetector !== 'function') throw new Error('no BarcodeDetector');
  if (!(await BarcodeDetector.getSupportedFormats()).includes('qr_code')) throw new Error('no qr_code');
  const detector = new BarcodeDetector({ formats: ['qr_code'] });
  const attempt = async (image) => (await detector.detect(image).catch(() => []))[0]?.rawValue;
  return async (image) => {
    const text = await attempt(image);
    if (text) return text;
    invert(image);
    return attempt(image);
  };
}

/** The decoders that this page has, in the order in which frames are given to them. */
export async function decoders() {
  const tried = await Promise.allSettled([native(), jsQR(), qr()]);
  return tried.filter((t) => t.status === 'fulfilled').map((t) => t.value);
}

/** What of a picture of w by h pixels is given to a decoder. */
export function grab(source, w, h, canvas = document.createElement('canvas')) {
  const scale = Math.min(1, EDGE / Math.max(w, h));
  canvas.width = Math.round(w * scale);
  canvas.height = Math.round(h * scale);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/**
 * Reads frames of a playing video until accept takes a text, then returns what
 * accept made of it; null if stopped. Each frame goes to the next decoder.
 */
export async function read(video, decode, accept, signal) {
  const canvas = document.createElement('canvas');
  for (let turn = 0; !signal.aborted; turn++) {
    await new Promise((done) => { setTimeout(done, PAUSE); });
    if (signal.aborted || video.videoWidth === 0) continue;
    const text = await decode[turn % decode.length](grab(video, video.videoWidth, video.videoHeight, canvas));
    const taken = text && !signal.aborted ? accept(text) : null;
    if (taken) return taken;
  }
  return null;
}

/** Opens the back camera into video; throws where there is none or it is refused. */
export async function camera(video) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: false, video: { facingMode: { ideal: 'environment' }, width: { ideal: 1280 }, height: { ideal: 720 } },
  });
  video.srcObject = stream;
  await video.play();
  return () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  };
}
