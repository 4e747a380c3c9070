import type { Image } from '../core/frame.js';
import type { Box } from './image.js';

export interface PhantomOptions {
  /** The same seed gives the same film, bit for bit. */
  readonly seed: number;
  /** Width and height in pixels. */
  readonly size: number;
  /** How many opacities there are in the lungs. Default 0. */
  readonly opacities?: number;
  /** Depth of the samples. Default 8. */
  readonly bits?: 8 | 16;
}

/** An opacity: a bright patch in the dark lung. */
export interface Opacity {
  /** The smallest rectangle around the mask, in pixels. */
  readonly box: Box;
  /** 255 where the opacity has at least half of its strength, else 0; of the film's size. */
  readonly mask: Image;
}

export interface Phantom {
  /** A synthetic chest film (PA): bone is bright, air is dark, the heart points to the image's right. */
  readonly image: Image;
  readonly opacities: readonly Opacity[];
  /** 255 where there is lung that neither heart nor diaphragm covers, else 0. */
  readonly lungs: Image;
}

/**
 * Draws a synthetic chest film for tests, docs and demonstrations.
 *
 * Attenuations are summed along the ray (trunk, mediastinum, heart, ribs, clavicles, vessels, abdomen; lungs and
 * airways take away), a film's S-curve turns the sum into grey, and grain is added. Each seed is another "patient":
 * build, rotation, inspiration, heart size, exposure.
 */
export function phantomFilm({ seed, size, opacities = 0, bits = 8 }: PhantomOptions): Phantom {
  const random = randomFrom(seed);
  const draw = anatomy(random);
  const film = new Float32Array(size * size);
  const lungs = new Uint8Array(size * size);
  for (let y = 0, i = 0; y < size; y++) {
    for (let x = 0; x < size; x++, i++) {
      const { grey, lung } = draw((2 * x + 1) / size - 1, (2 * y + 1) / size - 1);
      film[i] = grey;
      lungs[i] = lung > 0.5 ? 255 : 0;
    }
  }
  const lungMask: Image = { width: size, height: size, channels: 1, data: lungs };

  let image: Image = { width: size, height: size, channels: 1, data: film };
  const found: Opacity[] = [];
  while (found.length < opacities) {
    const [x, y] = [random(), random()];
    // Well inside a lung: near the edge there could be heart or chest wall.
    const inside = [-0.04, 0, 0.04].every((d) => isSet(lungMask, x + d, y) && isSet(lungMask, x, y + d));
    if (!inside) continue;
    const added = addOpacity(image, { seed: seed + found.length + 1, x, y });
    image = added.image;
    found.push(added.opacity);
  }

  const white = bits === 16 ? 65535 : 255;
  const data = bits === 16 ? new Uint16Array(film.length) : new Uint8Array(film.length);
  for (let i = 0; i < data.length; i++) {
    // Grain: the sum of three is near enough to a normal distribution.
    const grain = 0.02 * (random() + random() + random() - 1.5);
    data[i] = Math.round(white * clamp((image.data[i] ?? 0) + grain));
  }
  return { image: { ...image, data }, opacities: found, lungs: lungMask };
}

export interface OpacityOptions {
  readonly seed: number;
  /** The middle, as parts of width and height (0–1). */
  readonly x: number;
  readonly y: number;
  /** Mean radius as part of the width. Default: by the seed, 0.06–0.11. */
  readonly radius?: number;
  /** How much of the way to white it goes, 0–1. Default: by the seed, 0.3–0.45. */
  readonly strength?: number;
}

/**
 * Puts an opacity with a soft, ragged edge onto a grey film of any sample type, and says where it is.
 * Of floating-point films, 1 is white.
 */
export function addOpacity(film: Image, options: OpacityOptions): { image: Image; opacity: Opacity } {
  const { width, height } = film;
  const random = randomFrom(options.seed);
  const { radius = between(random, 0.06, 0.11), strength = between(random, 0.3, 0.45) } = options;
  const stretch = between(random, 0.8, 1.25);
  const ragged = valueNoise(random, 9);
  const mottle = valueNoise(random, 24);

  const data = film.data.slice();
  const white = data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;
  const mask = new Uint8Array(width * height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const [u, v] = [(x + 0.5) / width, (y + 0.5) / height];
      const distance = Math.hypot((u - options.x) * stretch, ((v - options.y) * height) / width / stretch);
      const depth = step(1.25 + 0.5 * (ragged(u, v) - 0.5) - distance / radius, 0, 0.6);
      if (depth === 0) continue;
      const level = data[i] ?? 0;
      const gain = strength * depth * (0.75 + 0.5 * mottle(u, v));
      const lit = level + (white - level) * Math.min(1, gain);
      data[i] = white === 1 ? lit : Math.round(lit);
      if (depth < 0.5) continue;
      mask[i] = 255;
      [left, top, right, bottom] = [
        Math.min(left, x),
        Math.min(top, y),
        Math.max(right, x),
        Math.max(bottom, y),
      ];
    }
  }
  const box = { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
  return { image: { ...film, data }, opacity: { box, mask: { width, height, channels: 1, data: mask } } };
}

// ── the body ──────────────────────────────────────────────────────────────────────────────────────

/** Coordinates run from −1 to 1, left to right and top to bottom. */
type Draw = (u: number, v: number) => { grey: number; lung: number };

function anatomy(random: () => number): Draw {
  const tilt = between(random, -0.05, 0.05);
  const [shiftU, shiftV] = [between(random, -0.03, 0.03), between(random, -0.03, 0.03)];
  const build = between(random, 0.93, 1.06);
  const inspiration = between(random, -0.05, 0.05);
  const heartSize = between(random, 0.9, 1.12);
  const exposure = between(random, 0.93, 1.07);
  const ribPhase = between(random, 0, 0.06);
  const ribSlope = between(random, 0.85, 1.15);
  const tissue = valueNoise(random, 6);
  const fine = valueNoise(random, 60);
  const vessels = [vesselTree(random, -1), vesselTree(random, 1)].flat();

  return (x, y) => {
    const u = ((x - shiftU) * Math.cos(tilt) - (y - shiftV) * Math.sin(tilt)) / build;
    const v = (x - shiftU) * Math.sin(tilt) + (y - shiftV) * Math.cos(tilt);
    const side = u < 0 ? -1 : 1;
    const a = Math.abs(u);

    // The trunk: broad shoulders at the top, arms held away, air beside the chest.
    const flank = 0.9 + 0.2 * step(-v, 0.35, 0.95) - 0.03 * step(v, -0.4, 0.4);
    const trunk = step(flank - a, -0.015, 0.05);
    const neck = step(-v - 0.02, 0.82, 1) * step(a, 0.28, 0.55);
    const thickness = 0.62 * trunk * (0.75 + 0.25 * step(flank - a, 0, 0.3)) * (1 - 0.75 * neck);

    // Lungs: taller than wide, pointed above, cut off below by the dome of the diaphragm.
    const dome =
      0.5 +
      inspiration +
      (side < 0 ? -0.045 : 0.02) +
      0.95 * (a - 0.36) ** 2 +
      1.2 * Math.max(0, a - 0.55) ** 2;
    const taper = 1 - 0.42 * step(-v, 0.05, 0.85);
    const across = (a - 0.44 + 0.1 * step(-v, 0.2, 0.85)) / (0.36 * taper);
    const along = (v + 0.06) / 0.76;
    const body = 1 - (Math.abs(across) ** 2.4 + Math.abs(along) ** 2.8);
    const air = step(body, -0.02, 0.16) * step(dome - v, -0.015, 0.03);

    // Structures in front of the lungs, which hide them.
    const heart = Math.max(
      blob((u - 0.15 - 0.1 * (v - 0.25)) / (0.38 * heartSize), (v - 0.28) / (0.34 * heartSize), 0.55),
      blob((u + 0.06) / (0.2 * heartSize), (v - 0.24) / 0.27, 0.7),
    );
    const arch = blob((u - 0.07) / 0.15, (v + 0.26) / 0.17, 0.9);
    const hilum = blob((a - 0.19) / 0.13, (v + 0.02 + 0.04 * side) / 0.17, 0.9);
    const mediastinum = step(0.14 + 0.04 * step(v, -0.5, 0.1) - a, -0.05, 0.07) * step(v, -0.95, -0.6);
    const abdomen = step(v - dome, -0.02, 0.03) * step(0.86 - a, 0, 0.1);
    const bubble = blob((u - 0.42) / 0.17, (v - dome - 0.13) / 0.07, 0.5);
    const trachea = step(0.05 - Math.abs(u + 0.01), -0.015, 0.02) * step(-v, 0.22, 0.34);
    const hidden = Math.max(heart, mediastinum, 0.9 * arch);

    let sum = thickness - 0.42 * air * (1 - 0.62 * hidden);
    sum += 0.12 * Math.max(heart, mediastinum, arch) * trunk + 0.08 * heart * air + 0.06 * hilum * air;
    sum += 0.03 * abdomen - 0.16 * bubble * abdomen - 0.1 * trachea;

    // Bones.
    const vertebrae = 0.5 + 0.5 * Math.cos(v * 44);
    sum += step(0.075 - a, -0.01, 0.02) * (0.05 + 0.025 * vertebrae) * trunk;
    sum +=
      0.1 *
      ribs(a, v, ribPhase, ribSlope) *
      step(flank - 0.03 - a, 0, 0.05) *
      (1 - 0.6 * Math.max(hidden, abdomen));
    sum += 0.14 * clavicle(a, v) * trunk;
    sum += 0.1 * scapula(a, v) * trunk;

    // Vessels, and what makes tissue uneven.
    let vessel = 0;
    if (air > 0) for (const branch of vessels) vessel = Math.max(vessel, branch(u, v));
    sum += 0.13 * vessel * air * (1 - hidden);
    const [p, q] = [(x + 1) / 2, (y + 1) / 2];
    sum += (0.07 * (tissue(p, q) - 0.5) + 0.03 * (fine(p, q) - 0.5)) * trunk;

    // The film's curve: a foot in the air, a shoulder in the bones.
    const grey = 1 / (1 + Math.exp(-6.2 * (sum * exposure - 0.46)));
    return { grey: clamp((grey - 0.045) / 0.9), lung: air * (1 - Math.max(heart, mediastinum, arch)) };
  };
}

/** Ten pairs: behind, they fall away from the spine; in front, they come back steeper and fainter. */
function ribs(a: number, v: number, phase: number, slope: number): number {
  let most = 0;
  for (let n = 0; n < 10; n++) {
    const start = -0.86 + phase + n * 0.155;
    const reach = 0.5 + 0.36 * Math.sqrt(Math.min(1, (n + 0.6) / 4));
    const t = a / reach;
    if (t > 1.02) continue;
    const behind = start - 0.07 * Math.sin(Math.min(1, t * 1.7) * Math.PI * 0.5) + slope * 0.3 * t ** 2.6;
    const front = start + 0.42 + slope * 0.1 * (1 - t) - 0.1 * t;
    most = Math.max(most, band(v - behind, 0.03) * step(a, 0.05, 0.09));
    if (n < 7) most = Math.max(most, 0.45 * band(v - front - 0.12 * (1 - t), 0.034) * step(t, 0.45, 0.62));
  }
  return most;
}

function clavicle(a: number, v: number): number {
  const line = -0.64 - 0.16 * step(a, 0.1, 0.75) + 0.035 * Math.sin(a * 8);
  return band(v - line, 0.03) * step(a, 0.07, 0.12) * step(0.82 - a, 0, 0.06);
}

function scapula(a: number, v: number): number {
  const edge = 0.7 + 0.14 * step(-v, 0.1, 0.6);
  return (
    step(a - edge, -0.005, 0.02) *
    step(0.4 - Math.abs(v + 0.42), 0, 0.12) *
    (0.5 + 0.5 * band(a - edge - 0.02, 0.02))
  );
}

/** Branches that leave the hilum, fork and thin out. */
function vesselTree(random: () => number, side: number): ((u: number, v: number) => number)[] {
  const branches: ((u: number, v: number) => number)[] = [];
  const grow = (u: number, v: number, angle: number, width: number): void => {
    if (width < 0.0035) return;
    const length = between(random, 0.09, 0.16);
    const [du, dv] = [side * Math.cos(angle) * length, Math.sin(angle) * length];
    const [mu, mv, reach] = [u + du / 2, v + dv / 2, length / 2 + width * 1.6];
    branches.push((x, y) => {
      if (Math.abs(x - mu) > reach || Math.abs(y - mv) > reach) return 0;
      const t = clamp(((x - u) * du + (y - v) * dv) / (length * length));
      const distance = Math.hypot(x - u - t * du, y - v - t * dv);
      return distance > width * 1.6
        ? 0
        : Math.min(1, width * 55) * step(width * 1.6 - distance, 0, width * 1.4);
    });
    grow(u + du, v + dv, angle + between(random, -0.5, 0.15), width * between(random, 0.6, 0.82));
    grow(u + du, v + dv, angle + between(random, -0.05, 0.6), width * between(random, 0.5, 0.78));
  };
  for (const angle of [-1.15, -0.55, 0, 0.5, 0.95]) {
    grow(side * 0.17, -0.02, angle + between(random, -0.2, 0.2), between(random, 0.012, 0.018));
  }
  return branches;
}

// ── shapes ────────────────────────────────────────────────────────────────────────────────────────

/** 0 up to `from`, 1 from `to` on, smooth between. */
function step(value: number, from: number, to: number): number {
  const t = clamp((value - from) / (to - from));
  return t * t * (3 - 2 * t);
}

/** 1 inside the unit circle, falling to 0 towards its edge over `softness`. */
function blob(u: number, v: number, softness: number): number {
  return step(1 - Math.hypot(u, v), 0, softness * 0.35);
}

/** A bone across: bright along both edges, where the ray runs through cortex. */
function band(offset: number, halfWidth: number): number {
  const t = Math.abs(offset) / halfWidth;
  return t >= 1.15 ? 0 : step(1.15 - t, 0, 0.3) * (0.65 + 0.35 * Math.min(1, t) ** 2);
}

function clamp(value: number): number {
  return Math.min(1, Math.max(0, value));
}

function isSet({ width, height, data }: Image, x: number, y: number): boolean {
  return data[Math.floor(y * height) * width + Math.floor(x * width)] === 255;
}

// ── chance ────────────────────────────────────────────────────────────────────────────────────────

/** Uniform in 0–1 (mulberry32 by Tommy Ettinger, public domain). */
function randomFrom(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b9) ^ 0x5f356495;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function between(random: () => number, low: number, high: number): number {
  return low + (high - low) * random();
}

/** Smooth noise over the unit square, 0–1, with `cells` bumps along each axis. */
function valueNoise(random: () => number, cells: number): (u: number, v: number) => number {
  const side = cells + 2;
  const lattice = Float32Array.from({ length: side * side }, random);
  const at = (x: number, y: number): number => lattice[y * side + x] ?? 0;
  return (u, v) => {
    const [x, y] = [clamp(u) * cells, clamp(v) * cells];
    const [x0, y0] = [Math.floor(x), Math.floor(y)];
    const [s, t] = [step(x - x0, 0, 1), step(y - y0, 0, 1)];
    const upper = at(x0, y0) + s * (at(x0 + 1, y0) - at(x0, y0));
    const lower = at(x0, y0 + 1) + s * (at(x0 + 1, y0 + 1) - at(x0, y0 + 1));
    return upper + t * (lower - upper);
  };
}
