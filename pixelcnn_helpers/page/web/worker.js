// The worker: it draws digits, so that the page stays free to answer.
//
// The page first sends {about, floats, wasm}: what the networks are, their weights, the assembled kernel or null. Then it
// sends jobs {channel, id, digits, temperature}; a digit is {label, seed, known}. A job on a channel takes the place of
// the one before: after each row the worker looks for newer messages, and drops what nobody waits for any more. The
// first digit of a job is always finished, so that a page whose slider keeps moving still sees digits.

let network, judge, kernel;
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

function start({ about, floats, wasm }) {
  kernel = new Kernel(wasm);
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

async function drawAll() {
  drawing = true;
  while (waiting.size) {
    const [channel, job] = waiting.entries().next().value;
    waiting.delete(channel);
    await draw(job);
  }
  drawing = false;
}

async function draw({ channel, id, digits, temperature }) {
  for (const [index, digit] of digits.entries()) {
    const rows = sample(network, { ...digit, temperature });
    let [seconds, found] = [0, null];
    while (!found) {
      if (index && waiting.size) {
        if (waiting.has(channel)) return;
      }
      const began = performance.now();
      const { done, value } = rows.next();
      seconds += (performance.now() - began) / 1000;
      if (done) found = value;
      else await newMessages();
    }
    const votes = judge.votes(found.image, network.levels);
    postMessage({ channel, id, index, ...found, votes, seconds });
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
