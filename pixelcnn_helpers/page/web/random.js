// The random numbers of PyTorch's CPU generator, so that a seed draws here the image that it draws in Python.

/** The Mersenne Twister MT19937, seeded as `torch.Generator().manual_seed(seed)`. */
class Generator {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
    this.next = 624;
  }

  /** The next 32 random bits. */
  bits() {
    if (this.next === 624) this.renew();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  renew() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  /** The next number of `torch.rand`: 24 bits, a float32 from 0 to below 1. */
  rand() {
    return (this.bits() & 0xffffff) / 0x1000000;
  }
}

/** The Gumbel noise of the next row of an image, `width · levels` numbers: `row_noise` of sampling.py. */
function rowNoise(generator, width, levels) {
  const noise = new Float32Array(width * levels);
  for (let i = 0; i < noise.length; i++) {
    const uniform = Math.max(generator.rand(), 1e-37);
    noise[i] = -Math.log(Math.fround(-Math.log(uniform)));
  }
  return noise;
}
