// The worker: it draws digits, so that the page stays free to answer.
//
// The page first sends {about, floats, wasm}: what the networks are, and in base64 their weights and the assembled
// kernel. Then it sends jobs {channel, id, digits, temperature}; a digit is {label, seed, known}. A job on a channel
// takes the place of the one before: after each row the worker looks for newer messages, and drops what nobody waits
// for any more. The first digit of a job is always finished, so that a slider that keeps moving still shows digits.

let network, judge;
const waiting = new Map(); // channel -> the job that came last
let drawing = false;

onmessage = ({ data }) => {
  if (data.about) {
    start(data);
  } else {
    waiting.set(data.channel, data);
    if (!drawing) drawAll();
  }
};

function start({ about, floats: encoded, wasm }) {
  const floats = new Float32Array(bytes(encoded).buffer);
  const kernel = new Kernel(bytes(wasm));
  const [between, reader] = ["network", "judge"].map((name) => ({
    ...about[name],
    tensor(tensor) {
      const found = about[name].tensors[tensor];
      if (!found) return null;
      const count = found.shape.reduce((a, b) => a * b, 1);
      return { shape: found.shape, values: floats.subarray(found.offset, found.offset + count) };
    },
  }));
  network = new GatedPixelCNN(kernel, between);
  judge = new ConvClassifier(kernel, reader);
  postMessage({ ready: true, simd: kernel.simd });
}

function bytes(base64) {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

async function drawAll() {
  drawing = true;
  while (waiting.size) {
    const [channel, job] = waiting.entries().next().value;
    waiting.delete(channel);
    await draw(job);
  }
  drawing = false;
}

/** Draws a job's digits from `from` on. After one of them it lets the other channels have their turn. */
async function draw(job) {
  const { channel, id, digits, temperature, from = 0 } = job;
  for (let index = from; index < digits.length; index++) {
    if (index > from && waiting.size) {
      if (!waiting.has(channel)) waiting.set(channel, { ...job, from: index });
      return;
    }
    const rows = sample(network, { ...digits[index], temperature });
    let [seconds, drawn] = [0, null];
    while (!drawn) {
      const began = performance.now();
      const { done, value } = rows.next();
      seconds += (performance.now() - began) / 1000;
      if (done) drawn = value;
      else await newMessages();
      if (index > 0 && waiting.has(channel)) return;
    }
    const votes = judge.votes(drawn.image, network.levels);
    postMessage({ channel, id, index, ...drawn, votes, seconds, last: index === digits.length - 1 });
  }
}

/** Resolves after the messages that have arrived are handled; `setTimeout` would wait for 4 ms. */
const { port1, port2 } = new MessageChannel();
const resumed = [];
port1.onmessage = () => resumed.shift()();
function newMessages() {
  return new Promise((resume) => {
    resumed.push(resume);
    port2.postMessage(null);
  });
}
