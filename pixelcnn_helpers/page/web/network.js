// The incremental way through a GatedPixelCNN, for one image: caching.py in JavaScript, with the names of layers.py and
// models.py. `row` computes what depends on rows above, `pixel` what depends on the own row; each feature once.

/** Taps on rows above, in later layers also on the own row: a row of outputs at a time. */
class VerticalConv2d {
  constructor(kernel, weight, dilation, [height, width]) {
    const [outs, ins, , taps] = weight.shape;
    Object.assign(this, { kernel, outs, ins, taps, dilation, width, weights: kernel.rows(weight) });
    this.reach = (taps >> 1) * dilation;
    this.pitch = (width + 2 * this.reach) * ins * 4; // of a row of inputs, with empty columns at both sides
    this.cache = kernel.take(((height + this.reach) * this.pitch) / 4); // with empty rows on top
  }

  /** The address of the input at a place. */
  at(row, col) {
    return this.cache + (row + this.reach) * this.pitch + (col + this.reach) * this.ins * 4;
  }

  row(row, bias, y) {
    const { kernel, ins, outs, taps, dilation, width } = this;
    this.weights.forEach((weights, i) => {
      const x = this.at(row + i * dilation - this.reach, -this.reach);
      const [start, startStep] = i === 0 ? [bias, 0] : [y, outs * 4];
      kernel.product(
        x, ins * 4, width, taps, dilation * ins * 4, ins, weights, start, startStep, y, outs * 4, outs,
      );
    });
  }
}

/** Taps on the own row: the outputs at one pixel. */
class HorizontalConv2d {
  constructor(kernel, weight, dilation, reach, [, width]) {
    const [outs, ins, , taps] = weight.shape;
    Object.assign(this, { kernel, outs, ins, taps, reach, step: dilation * ins * 4 });
    [this.weights] = kernel.rows(weight);
    this.cache = kernel.take((width + reach) * ins); // with empty columns on the left
  }

  at(col) {
    return this.cache + (col + this.reach) * this.ins * 4;
  }

  pixel(col, start, y) {
    const { kernel, ins, outs, taps, step, weights } = this;
    kernel.product(this.at(col - this.reach), 0, 1, taps, step, ins, weights, start, 0, y, 0, outs);
  }
}

/** A 1×1 convolution, at `count` positions. */
class Pointwise {
  constructor(kernel, weight, bias) {
    const [outs, ins] = weight.shape;
    [this.weights] = kernel.rows(weight);
    Object.assign(this, { kernel, outs, ins, bias: bias && kernel.store(bias.values) });
  }

  apply(x, y, { count = 1, start = this.bias } = {}) {
    const { kernel, ins, outs, weights } = this;
    kernel.product(x, ins * 4, count, 1, 0, ins, weights, start, 0, y, outs * 4, outs);
  }
}

class GatedBlock {
  constructor(kernel, layer, features, dilation, size) {
    Object.assign(this, { kernel, features, width: size[1] });
    this.vertical = new VerticalConv2d(kernel, layer("vertical.weight"), dilation, size);
    this.horizontal = new HorizontalConv2d(kernel, layer("horizontal.weight"), dilation, this.vertical.reach, size);
    this.link = new Pointwise(kernel, layer("link.weight"), layer("link.bias"));
    this.residual = layer("residual.weight") && new Pointwise(kernel, layer("residual.weight"));
    this.condition = layer("condition.weight");
    this.bias = kernel.store(layer("vertical.bias").values);
    this.forV = kernel.take(2 * features);
    this.forH = kernel.take(2 * features);
    this.v = kernel.take(2 * features * this.width); // of this row, before the gate
    this.z = kernel.take(2 * features * this.width); // what this row's horizontal outputs begin with
    this.pixelZ = kernel.take(2 * features);
  }

  /** Begin an image: what the label adds to both stacks. */
  label(label) {
    const { features } = this;
    const [classes, sums] = [label.length, new Float32Array(4 * features)];
    for (let f = 0; f < sums.length; f++) {
      for (let c = 0; c < classes; c++) sums[f] += this.condition.values[f * classes + c] * label[c];
    }
    this.kernel.numbers.set(sums.subarray(0, 2 * features), this.forV >> 2);
    this.kernel.numbers.set(sums.subarray(2 * features), this.forH >> 2);
  }

  /** The vertical half of the block for a row; the next block, if any, receives the gated row. */
  row(row, next) {
    const { kernel, features, width } = this;
    this.vertical.row(row, this.bias, this.v);
    this.link.apply(this.v, this.z, { count: width }); // the link is taken before the gate
    if (next) kernel.gate(this.v, this.forV, width, features, next.vertical.at(row, 0), features * 4);
  }

  /** The horizontal half at a pixel: writes the gated features, and the input of the next block, if any. */
  pixel(col, gated, next) {
    const { kernel, features } = this;
    this.horizontal.pixel(col, this.z + col * features * 8, this.pixelZ);
    kernel.gate(this.pixelZ, this.forH, 1, features, gated, 0);
    if (next) this.residual.apply(gated, next.horizontal.at(col), { start: this.horizontal.at(col) });
  }
}

class GatedPixelCNN {
  constructor(kernel, { config, size, tensor }) {
    const { features, levels, embedding, dilations, classes, blocks } = config;
    Object.assign(this, { kernel, size, features, levels, classes });
    const vectors = embedding ? tensor("embedding.weight") : null;
    this.inputs = Array.from({ length: levels }, (_, level) => this.scale(level, vectors));
    this.vertical = new VerticalConv2d(kernel, tensor("vertical.weight"), 1, size);
    this.horizontal = new HorizontalConv2d(kernel, tensor("horizontal.weight"), 1, this.vertical.reach, size);
    this.bias = kernel.store(tensor("vertical.bias").values);
    this.blocks = Array.from({ length: blocks }, (_, i) => {
      const layer = (name) => tensor(`blocks.${i}.${name}`);
      return new GatedBlock(kernel, layer, features, dilations ? dilations[i] : 1, size);
    });
    for (const name of ["skip", "hidden", "head"]) {
      this[name] = new Pointwise(kernel, tensor(`${name}.weight`), tensor(`${name}.bias`));
    }
    this.v = kernel.take(features * size[1]); // of this row, after the first layer
    this.gated = kernel.take(blocks * features);
    this.x = kernel.take(features);
    this.y = kernel.take(features);
    this.logits = kernel.take(levels);
  }

  /** A level as the network sees it: its learned vector, or a number from -1 to 1 beside a one. */
  scale(level, vectors) {
    if (!vectors) return Float32Array.of(level * (2 / (this.levels - 1)) - 1, 1);
    const inputs = vectors.shape[1];
    return vectors.values.subarray(level * inputs, (level + 1) * inputs);
  }

  label(label) {
    for (const block of this.blocks) block.label(label);
  }

  row(row) {
    const { kernel, blocks, features } = this;
    this.vertical.row(row, this.bias, this.v);
    const v = kernel.read(this.v, features * this.size[1]);
    kernel.numbers.set(v, blocks[0].vertical.at(row, 0) >> 2);
    blocks.forEach((block, i) => block.row(row, blocks[i + 1]));
  }

  /** The logits of a pixel, one for each level. */
  pixel(col) {
    const { kernel, blocks, features } = this;
    this.horizontal.pixel(col, this.v + col * features * 4, blocks[0].horizontal.at(col));
    blocks.forEach((block, i) => block.pixel(col, this.gated + i * features * 4, blocks[i + 1]));
    this.skip.apply(this.gated, this.x);
    kernel.relu(this.x, features);
    this.hidden.apply(this.x, this.y);
    kernel.relu(this.y, features);
    this.head.apply(this.y, this.logits);
    return kernel.read(this.logits, this.levels);
  }

  put(row, col, level) {
    this.kernel.numbers.set(this.inputs[level], this.vertical.at(row, col) >> 2);
    this.kernel.numbers.set(this.inputs[level], this.horizontal.at(col) >> 2);
  }
}

/**
 * `sample` of sampling.py, for one image: yields after each row, and returns {image, logits} of all pixels.
 *
 * known: a level for each pixel to keep, -1 for a pixel to draw; or nothing.
 */
function* sample(model, { label, seed, temperature = 1, known = null }) {
  const [height, width] = model.size;
  const { levels } = model;
  const image = new Uint8Array(height * width);
  const logits = new Float32Array(height * width * levels);
  const generator = new Generator(seed);
  model.label(label);
  for (let row = 0; row < height; row++) {
    const noise = rowNoise(generator, width, levels);
    model.row(row);
    for (let col = 0; col < width; col++) {
      const place = row * width + col;
      const scores = model.pixel(col);
      logits.set(scores, place * levels);
      let [drawn, most] = [0, -Infinity];
      for (let level = 0; level < levels; level++) {
        const score = Math.fround(scores[level] + Math.fround(noise[col * levels + level] * temperature));
        if (score > most) [drawn, most] = [level, score];
      }
      image[place] = known && known[place] >= 0 ? known[place] : drawn;
      model.put(row, col, image[place]);
    }
    yield row;
  }
  return { image, logits };
}
