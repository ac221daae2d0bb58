// The judge: a ConvClassifier (judges.py) that reads digits and had no part in drawing them. Its batch norms are folded
// into its convolutions when the page is built. A feature map lies pixel by pixel, its channels side by side.

const LAYERS = {
  Conv2d(kernel, { weight, bias }, { height, width, channels }) {
    const [outs, , k] = weight.shape;
    const reach = k >> 1;
    const pitch = (width + 2 * reach) * channels * 4;
    const padded = kernel.take(((height + 2 * reach) * pitch) / 4);
    const [rows, start] = [kernel.rows(weight), kernel.store(bias.values)];
    const y = kernel.take(height * width * outs);
    return [{ height, width, channels: outs, address: y }, (x) => {
      for (let row = 0; row < height; row++) {
        const line = kernel.read(x + row * width * channels * 4, width * channels);
        kernel.numbers.set(line, (padded + (row + reach) * pitch + reach * channels * 4) >> 2);
      }
      for (let row = 0; row < height; row++) {
        const to = y + row * width * outs * 4;
        rows.forEach((weights, i) => {
          const [from, step] = i === 0 ? [start, 0] : [to, outs * 4];
          const line = padded + (row + i) * pitch;
          kernel.product(
            line, channels * 4, width, k, channels * 4, channels, weights, from, step, to, outs * 4, outs,
          );
        });
      }
    }];
  },

  ReLU(kernel, _, { height, width, channels, address }) {
    const count = height * width * channels;
    return [{ height, width, channels, address }, (x) => kernel.relu(x, count)];
  },

  MaxPool2d: (kernel, _, map) => pool(kernel, map, 2, 2),
  AdaptiveMaxPool2d: (kernel, _, map) => pool(kernel, map, map.height, map.width),
  Flatten: (kernel, _, map) => [map, () => {}],

  Linear(kernel, { weight, bias }, { channels }) {
    const [outs] = weight.shape;
    const y = kernel.take(outs);
    return [{ height: 1, width: 1, channels: outs, address: y }, (address) => {
      const x = kernel.read(address, channels);
      for (let o = 0; o < outs; o++) {
        let sum = bias.values[o];
        for (let i = 0; i < channels; i++) sum += weight.values[o * channels + i] * x[i];
        kernel.numbers[(y >> 2) + o] = sum;
      }
    }];
  },
};

/** The largest value in each box of `high` by `wide` pixels. */
function pool(kernel, { height, width, channels }, high, wide) {
  const map = { height: Math.floor(height / high), width: Math.floor(width / wide), channels };
  map.address = kernel.take(map.height * map.width * channels);
  return [map, (address) => {
    const x = kernel.read(address, height * width * channels);
    const y = kernel.read(map.address, map.height * map.width * channels).fill(-Infinity);
    for (let row = 0; row < map.height * high; row++) {
      for (let col = 0; col < map.width * wide; col++) {
        const from = (row * width + col) * channels;
        const to = (Math.floor(row / high) * map.width + Math.floor(col / wide)) * channels;
        for (let c = 0; c < channels; c++) y[to + c] = Math.max(y[to + c], x[from + c]);
      }
    }
  }];
}

class ConvClassifier {
  constructor(kernel, { size: [height, width], layers, tensor }) {
    this.kernel = kernel;
    this.input = { height, width, channels: 1, address: kernel.take(height * width) };
    this.steps = [];
    let map = this.input;
    for (const [kind, name] of layers) {
      const weights = { weight: tensor(`${name}.weight`), bias: tensor(`${name}.bias`) };
      const { address } = map;
      const [next, step] = LAYERS[kind](kernel, weights, map);
      this.steps.push(() => step(address));
      map = next;
    }
    this.output = map;
  }

  /** The share of each class in the judge's verdict on an image of integers `0 … levels-1`. */
  votes(image, levels) {
    const x = this.kernel.read(this.input.address, image.length);
    for (let i = 0; i < image.length; i++) x[i] = image[i] / (levels - 1);
    for (const step of this.steps) step();
    return softmax(this.kernel.read(this.output.address, this.output.channels));
  }
}
