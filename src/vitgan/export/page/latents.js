// The latents that PyTorch draws for a seed, so that a seed means the same image here and in `vitgan sample --seed`.
// Mersenne Twister (Matsumoto & Nishimura 1998) and Box-Muller. torch.randn draws 16 numbers or more from 24-bit uniforms,
// in groups of 16, and fewer from 53-bit uniforms, in pairs.

function mersenneTwister(seed) {
  const state = new Uint32Array(624);
  state[0] = seed >>> 0;
  for (let i = 1; i < 624; i++) {
    const previous = state[i - 1] ^ (state[i - 1] >>> 30);
    state[i] = Math.imul(1812433253, previous) + i;
  }
  let place = 624;
  const renew = () => {
    for (let i = 0; i < 624; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    place = 0;
  };
  return () => {
    if (place === 624) renew();
    let y = state[place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/** Standard normal latent of a seed: Float32Array of `size`. */
export function latentOfSeed(seed, size) {
  const next = mersenneTwister(seed);
  return size < 16 ? inPairs(next, size) : inGroups(next, size);
}

function inPairs(next, size) {
  const uniform = () => ((next() & 0x1fffff) * 2 ** 32 + next()) * 2 ** -53;
  const values = [];
  while (values.length < size) {
    const angle = 2 * Math.PI * uniform();
    const radius = Math.sqrt(-2 * Math.log1p(-uniform()));
    values.push(radius * Math.cos(angle), radius * Math.sin(angle));
  }
  return Float32Array.from(values.slice(0, size));
}

function inGroups(next, size) {
  const uniform = () => (next() & 0xffffff) / 0x1000000;
  const values = new Float32Array(size);
  for (let i = 0; i < values.length; i++) values[i] = uniform();
  const toNormal = (start) => {
    for (let j = start; j < start + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
      const angle = 2 * Math.PI * values[j + 8];
      values[j] = radius * Math.cos(angle);
      values[j + 8] = radius * Math.sin(angle);
    }
  };
  for (let start = 0; start + 16 <= values.length; start += 16) toNormal(start);
  if (values.length % 16) { // the last group overlaps the one before and is drawn anew
    const start = values.length - 16;
    for (let i = start; i < values.length; i++) values[i] = uniform();
    toNormal(start);
  }
  return values;
}

/** The arc from a to b at t in [0, 1]. */
export function slerp(a, b, t) {
  const norm = (v) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  const [lengthA, lengthB] = [norm(a), norm(b)];
  const cosine = a.reduce((sum, x, i) => sum + x * b[i], 0) / (lengthA * lengthB);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (angle < 1e-4 || Math.PI - angle < 1e-4) return a.map((x, i) => x + (b[i] - x) * t);
  const length = lengthA * (1 - t) + lengthB * t;
  const [shareA, shareB] = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map((s) => (s / Math.sin(angle)) * length);
  return a.map((x, i) => (x / lengthA) * shareA + (b[i] / lengthB) * shareB);
}
