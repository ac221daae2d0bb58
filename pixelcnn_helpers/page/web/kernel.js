// The memory of both networks, and the two functions that do almost all arithmetic in it. They come from kernel.wat
// where the browser runs WebAssembly with SIMD; otherwise the same in plain JavaScript, about ten times slower.
// Addresses and steps count bytes; all numbers are float32.

const MEMORY_PAGES = 512; // of 64 KiB; a browser gives them as they are used

/** The weights of `product` lie in tiles of 24 outputs as long as these last, then of 4. */
function tileOf(output, outs) {
  return output < outs - (outs % 24) ? 24 : 4;
}

class Kernel {
  /** wasm: the assembled kernel.wat, or null for plain JavaScript. */
  constructor(wasm) {
    this.simd = false;
    this.used = 0;
    try {
      const memory = new WebAssembly.Memory({ initial: MEMORY_PAGES });
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), { page: { memory } });
      this.numbers = new Float32Array(memory.buffer);
      this.product = exports.product;
      this.gate = exports.gate;
      this.simd = true;
    } catch {
      this.numbers = new Float32Array((MEMORY_PAGES * 65536) / 4);
    }
  }

  /** The address of `count` numbers that nobody else uses, all 0. */
  take(count) {
    const address = this.used;
    this.used += Math.ceil(count / 16) * 64;
    if (this.used > 4 * this.numbers.length) throw new Error("the networks need more memory than MEMORY_PAGES");
    return address;
  }

  store(values) {
    const address = this.take(values.length);
    this.numbers.set(values, address >> 2);
    return address;
  }

  read(address, count) {
    return this.numbers.subarray(address >> 2, (address >> 2) + count);
  }

  relu(address, count) {
    const x = this.read(address, count);
    for (let i = 0; i < count; i++) if (x[i] < 0) x[i] = 0;
  }

  /** y[p, o] = start[p, o] + the sum over t, i of x[p, t, i] · w[t, i, o], for `count` positions p. */
  product(x, xStep, count, taps, tapStep, ins, w, start, startStep, y, yStep, outs) {
    const numbers = this.numbers;
    for (let o = 0; o < outs; o += 4) {
      const tile = tileOf(o, outs);
      const weights = (w >> 2) + (o - (o % tile)) * taps * ins + (o % tile);
      for (let p = 0; p < count; p++) {
        const from = ((start + p * startStep) >> 2) + o;
        let a = numbers[from];
        let b = numbers[from + 1];
        let c = numbers[from + 2];
        let d = numbers[from + 3];
        let at = weights;
        for (let t = 0; t < taps; t++) {
          const first = (x + p * xStep + t * tapStep) >> 2;
          for (let i = first; i < first + ins; i++) {
            const v = numbers[i];
            a += v * numbers[at];
            b += v * numbers[at + 1];
            c += v * numbers[at + 2];
            d += v * numbers[at + 3];
            at += tile;
          }
        }
        const to = ((y + p * yStep) >> 2) + o;
        numbers[to] = a;
        numbers[to + 1] = b;
        numbers[to + 2] = c;
        numbers[to + 3] = d;
      }
    }
  }

  /** y[p, f] = tanh(z[p, f] + add[f]) · sigmoid(z[p, features + f] + add[features + f]), for `count` positions p. */
  gate(z, add, count, features, y, yStep) {
    const numbers = this.numbers;
    for (let p = 0; p < count; p++) {
      const [from, to] = [(z >> 2) + 2 * p * features, (y + p * yStep) >> 2];
      for (let f = 0; f < features; f++) {
        const tanh = Math.tanh(numbers[from + f] + numbers[(add >> 2) + f]);
        const sigmoid = 1 / (1 + Math.exp(-numbers[from + features + f] - numbers[(add >> 2) + features + f]));
        numbers[to + f] = tanh * sigmoid;
      }
    }
  }

  /** Store weights (outs, ins, rows, k) as `product` reads them: the address of each row of the kernel. */
  rows({ values, shape: [outs, ins, rows = 1, k = 1] }) {
    return Array.from({ length: rows }, (_, row) => {
      const packed = new Float32Array(outs * ins * k);
      for (let o = 0; o < outs; o++) {
        const tile = tileOf(o, outs);
        for (let i = 0; i < ins; i++) {
          for (let t = 0; t < k; t++) {
            const at = (o - (o % tile)) * k * ins + (t * ins + i) * tile + (o % tile);
            packed[at] = values[((o * ins + i) * rows + row) * k + t];
          }
        }
      }
      return this.store(packed);
    });
  }
}
