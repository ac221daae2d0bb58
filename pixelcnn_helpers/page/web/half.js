// Finish my half: the reader draws the upper half of a digit, the network keeps it and draws the lower half.

const UPPER = (HEIGHT / 2) * WIDTH; // so many pixels are the reader's
const MARGIN = 4; // MNIST's digits keep so many pixels away from the border
const PEN = 1.7; // the reach of the pen in pixels; it is softer outside

const half = {
  image: new Uint8Array(PIXELS),
  isExample: true, // until the reader begins a drawing
  seed: FIRST_SEED,
  pen: { row: 8, col: 9, down: false }, // for the keys
  last: null, // where the pointer was
};

function startHalf() {
  $("as").append(option("each", "each digit, once", true));
  for (let c = 0; c < CLASSES; c++) $("as").append(option(c, `${withArticle(c)}, ten times`, false));
  for (let i = 0; i < 10; i++) {
    $("finished").append(tile(""));
  }
  for (let c = 0; c < CLASSES; c++) {
    const name = element("span", { className: "filled", textContent: c });
    name.style.setProperty("--fill", `var(--class-${c})`);
    $("key").append(name);
  }
  const draft = $("draft");
  draft.onpointerdown = (event) => {
    if (event.button !== 0 || pointAt(event)[0] > HEIGHT / 2) return; // the lower half is the network's
    draft.setPointerCapture(event.pointerId);
    beginDrawing();
    half.last = pointAt(event);
    stroke(half.last, half.last);
  };
  draft.onpointermove = (event) => {
    if (!half.last) return;
    const point = pointAt(event);
    stroke(half.last, point);
    half.last = point;
  };
  draft.onpointerup = draft.onpointercancel = () => {
    if (half.last) finish();
    half.last = null;
  };
  draft.onkeydown = penByKey;
  draft.onfocus = draft.onblur = showDraft;
  $("clear").onclick = () => {
    half.image.fill(0);
    half.isExample = false;
    showDraft();
    finish();
  };
  $("take").onclick = takeExample;
  $("half-noise").onclick = () => {
    half.seed += 10;
    finish();
  };
  $("as").onchange = finish;
  $("temperature").onchange = finish;
  mix.listeners.push(() => isEmpty() && half.isExample && takeExample());
}

/** The upper half of the large digit, so that there is something to see before the reader has drawn. */
function takeExample() {
  half.image.set(mix.large.image.subarray(0, UPPER));
  half.isExample = true;
  showDraft();
  finish();
}

const isEmpty = () => half.image.every((level) => level === 0);

function beginDrawing() {
  if (half.isExample) half.image.fill(0);
  half.isExample = false;
  say("half-words", "Lift the pen, and the network goes on.");
}

function pointAt(event) {
  const box = $("draft").getBoundingClientRect();
  return [((event.clientY - box.top) / box.height) * HEIGHT, ((event.clientX - box.left) / box.width) * WIDTH];
}

/** Ink along a line between two points, in rows and columns. */
function stroke([row0, col0], [row1, col1]) {
  const steps = Math.ceil(2 * Math.hypot(row1 - row0, col1 - col0)) + 1;
  for (let step = 0; step <= steps; step++) {
    const [row, col] = [row0 + ((row1 - row0) * step) / steps, col0 + ((col1 - col0) * step) / steps];
    for (let i = 0; i < UPPER; i++) {
      const away = Math.hypot(Math.floor(i / WIDTH) + 0.5 - row, (i % WIDTH) + 0.5 - col);
      const ink = Math.round((LEVELS - 1) * Math.min(1, PEN - away));
      if (ink > half.image[i]) half.image[i] = ink;
    }
  }
  showDraft();
}

function penByKey(event) {
  const { pen } = half;
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!(event.key in steps) && event.key !== " ") return;
  event.preventDefault();
  const before = [pen.row + 0.5, pen.col + 0.5];
  if (event.key === " ") {
    pen.down = !pen.down;
    if (pen.down) beginDrawing();
  } else {
    pen.row = Math.min(HEIGHT / 2 - 1, Math.max(0, pen.row + steps[event.key][0]));
    pen.col = Math.min(WIDTH - 1, Math.max(0, pen.col + steps[event.key][1]));
  }
  if (pen.down) stroke(before, [pen.row + 0.5, pen.col + 0.5]);
  showDraft();
  if (event.key === " " && !pen.down) finish();
  say("draft-words", `The pen is ${pen.down ? "down" : "up"}, row ${pen.row + 1}, column ${pen.col + 1}.`);
}

function showDraft() {
  const context = $("draft").getContext("2d");
  paintUnfinished($("draft"), half.image, UPPER, null);
  const [left, right, middle] = [MARGIN * CELL, (WIDTH - MARGIN) * CELL, (HEIGHT / 2) * CELL];
  context.setLineDash([6, 8]);
  context.lineWidth = 2;
  context.strokeStyle = "#8a8f98";
  context.beginPath(); // where MNIST's digits lie
  for (const [x, y] of [[left, middle], [left, left], [right, left], [right, middle]]) context.lineTo(x, y);
  context.stroke();
  context.setLineDash([]);
  context.font = `24px ${getComputedStyle(document.body).fontFamily}`;
  context.textAlign = "center";
  context.fillStyle = colour("later-ink");
  context.fillText("the network’s half", (WIDTH * CELL) / 2, 1.55 * middle);
  context.fillStyle = "#c4c8ce";
  if (isEmpty()) context.fillText("draw here", (WIDTH * CELL) / 2, 0.65 * middle);
  if (document.activeElement === $("draft") && $("draft").matches(":focus-visible")) {
    paintFrame(context, half.pen.row * WIDTH + half.pen.col);
  }
}

/** Have the lower half drawn: once for each class, with the same noise, or for one class with ten noises. */
function finish() {
  const each = $("as").value === "each";
  const known = Int8Array.from(half.image, (level, i) => (i < UPPER ? level : -1));
  const digits = Array.from({ length: 10 }, (_, i) => {
    const label = new Float32Array(CLASSES);
    label[each ? i : +$("as").value] = 1;
    return { label, seed: half.seed + (each ? 0 : i), known };
  });
  const temperature = +$("temperature").value;
  const nats = []; // of the known half under each class
  $("finished").ariaBusy = "true";
  artist.draw("half", digits, temperature, (digit, current) => {
    if (!current) return;
    const box = $("finished").children[digit.index];
    const asked = digits[digit.index].label.indexOf(1);
    paintTile(box, digit);
    box.firstChild.ariaLabel = `Your half, finished as ${asked}: the judge reads ${most(digit.votes)}`;
    box.lastChild.textContent = each ? `as ${asked}` : "";
    nats.push(natsOfHalf(digit));
    if (digit.last) showReading(each, nats, temperature);
  });
}

/** -log p of the reader's half, under the class that the digit was drawn for. */
function natsOfHalf({ image, logits }) {
  let nats = 0;
  for (let i = 0; i < UPPER; i++) {
    nats -= Math.log(softmax(logits.subarray(i * LEVELS, (i + 1) * LEVELS))[image[i]]);
  }
  return nats;
}

/** What stands under the finished digits: how likely the reader's half belongs to each class, unless it is empty. */
function showReading(each, nats, temperature) {
  const shares = softmax(nats.map((value) => -value));
  const reads = each && !isEmpty();
  [...$("finished").children].forEach((box, c) => {
    box.classList.toggle("likeliest", reads && c === most(shares));
    if (reads) box.lastChild.replaceChildren(`as ${c}`, element("br"), percent(shares[c]));
  });
  const asked = each ? "Each digit once, with the same" : `Ten times ${withArticle($("as").value)}, each with other`;
  const words = [`${asked} noise${atTemperature(temperature)}.`];
  if (isEmpty()) words.push("Your half is still empty.");
  if (reads) {
    words.push("The per cents say to which digit your half belongs, by how likely the network finds its pixels");
    words.push(`in each (Bayes’ rule): most likely to ${withArticle(most(shares))}.`);
  }
  say("half-words", words.join(" "));
  $("finished").ariaBusy = "false";
}
