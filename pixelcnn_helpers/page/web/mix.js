// Digits between classes: what to ask for, the large digit, nine more, and the judge's votes.

const FIRST_SEED = 100;

const mix = {
  from: about.pairs[0][0],
  to: about.pairs[0][1],
  parts: new Array(CLASSES).fill(0), // of all ten, from 0 to 10
  seeds: Array.from({ length: 10 }, (_, i) => FIRST_SEED + i), // of the large digit, then of the nine
  large: null, // the large digit as drawn: {image, logits, label, seed, temperature}
  listeners: [], // called with each new large digit
};

function startMix() {
  for (const [side, index] of [["from", mix.from], ["to", mix.to]]) {
    for (let c = 0; c < CLASSES; c++) $(side).append(option(c, c, c === index));
    $(side).onchange = () => choosePair(...(side === "from" ? [+$(side).value, mix.to] : [mix.from, +$(side).value]));
  }
  for (const [a, b] of about.pairs) {
    const button = element("button", { type: "button", textContent: `${a} → ${b}`, onclick: () => choosePair(a, b) });
    button.dataset.pair = `${a}-${b}`;
    $("pairs").append(button);
  }
  for (let c = 0; c < CLASSES; c++) {
    const slider = element("input", { type: "range", min: 0, max: 10, step: 1, value: 0, id: `part-${c}` });
    slider.style.setProperty("--fill", `var(--class-${c})`);
    slider.oninput = () => {
      mix.parts[c] = +slider.value;
      ask();
    };
    $("ten").append(element("label", {}, element("span", { textContent: c }), slider));
  }
  for (let i = 1; i < mix.seeds.length; i++) {
    const button = element("button", { type: "button" }, ...tileParts());
    button.onclick = () => enlarge(i);
    $("more").append(button);
  }
  for (let c = 0; c < CLASSES; c++) {
    const column = element("div", {}, element("i", { className: "asked" }), element("i", { className: "vote" }));
    column.style.setProperty("--fill", `var(--class-${c})`);
    $("bars").append(element("div", { className: "bar" }, column, element("span", { textContent: c })));
  }
  for (const kind of document.getElementsByName("kind")) kind.onchange = chooseKind;
  $("weight").oninput = ask;
  $("temperature").oninput = ask;
  $("noise").onclick = () => {
    mix.seeds = mix.seeds.map((seed) => seed + mix.seeds.length);
    ask();
  };
  choosePair(mix.from, mix.to);
}

/** Ask between two digits. If one end is set to the digit of the other end, they change places. */
function choosePair(from, to) {
  [mix.from, mix.to] = from === to ? [mix.to, mix.from] : [from, to];
  $("from").value = mix.from;
  $("to").value = mix.to;
  ask();
}

function chooseKind() {
  const two = isOfTwo();
  for (const id of ["two", "pairs", "title-two"]) $(id).hidden = !two;
  for (const id of ["ten", "title-ten"]) $(id).hidden = two;
  if (!two && mix.parts.every((part) => part === 0)) {
    // begin where the pair was
    const weight = Math.round(10 * $("weight").value);
    mix.parts[mix.from] += 10 - weight;
    mix.parts[mix.to] += weight;
    mix.parts.forEach((part, c) => ($(`part-${c}`).value = part));
  }
  ask();
}

const isOfTwo = () => document.querySelector("[name=kind]:checked").value === "two";

/** The label row that is asked for, or null if all parts are 0. */
function askedLabel() {
  const label = new Float32Array(CLASSES);
  if (isOfTwo()) {
    label[mix.from] += 1 - $("weight").value;
    label[mix.to] += +$("weight").value;
    return label;
  }
  const sum = mix.parts.reduce((a, b) => a + b);
  return sum ? label.map((_, c) => mix.parts[c] / sum) : null;
}

/** A label in words, "0.50 of 1 and 0.50 of 7". */
function inWords(label) {
  const parts = [];
  label.forEach((share, c) => share > 0 && parts.push(`${hundredths(share)} of ${c}`));
  const last = parts.pop();
  return parts.length ? `${parts.join(", ")} and ${last}` : last;
}

function ask() {
  const label = askedLabel();
  const temperature = +$("temperature").value;
  showRequest(label, temperature);
  if (!label) return announce($("asked").textContent);
  $("large").ariaBusy = $("more").ariaBusy = "true";
  const digits = mix.seeds.map((seed) => ({ label, seed }));
  artist.draw("mix", digits, temperature, (digit, current) => {
    if (digit.index === 0) showLarge(digit, digits[0], temperature, current);
    else if (current) showSmall(digit, digits[digit.index].seed);
    if (current && digit.last) $("more").ariaBusy = "false";
  });
}

function showRequest(label, temperature) {
  const { from, to } = mix;
  $("temperature-value").value = hundredths(temperature);
  $("temperature").ariaValueText = hundredths(temperature);
  $("asked").textContent = label ? `You ask for ${inWords(label)}.` : "All weights are 0: raise one of them.";
  for (const [side, index] of [["from", from], ["to", to]]) {
    $(`${side}-name`).textContent = index;
    $(`${side}-name`).style.setProperty("--fill", `var(--class-${index})`);
    $("weight").style.setProperty(`--${side}-fill`, `var(--class-${index})`);
  }
  $("from-article").textContent = article(from);
  $("to-article").textContent = article(to);
  document.title = `What lies between ${isOfTwo() ? `${withArticle(from)} and ${withArticle(to)}` : "ten digits"}?`;
  $("weight").ariaValueText = label ? inWords(label) : "";
  for (const button of $("pairs").children) button.ariaPressed = button.dataset.pair === `${from}-${to}`;
  mix.parts.forEach((part, c) => ($(`part-${c}`).ariaValueText = `${part} parts of ${c}`));
  [...$("bars").children].forEach((bar, c) => bar.style.setProperty("--asked", label ? label[c] : 0));
}

function showLarge(digit, { label, seed }, temperature, current) {
  paintDigit($("large"), digit.image);
  $("large").ariaBusy = String(!current);
  $("large").ariaLabel = `A digit of ${HEIGHT} by ${WIDTH} pixels, drawn for ${inWords(label)}`;
  const way = document.documentElement.dataset.kernel === "simd" ? "" : ", without the browser’s fast arithmetic";
  $("speed").textContent = `${PIXELS} pixels, one after the other, in ${hundredths(digit.seconds)}\u00a0s${way}.`;
  [...$("bars").children].forEach((bar, c) => setBar(bar, digit.votes[c]));
  mix.large = { ...digit, label, seed, temperature };
  for (const listener of mix.listeners) listener(mix.large);
  if (!current) return;
  $("bars").ariaLabel = `Drawn for ${inWords(label)}. The judge’s votes: ${votesInWords(digit.votes)}.`;
  if (askedLabel()) announce($("bars").ariaLabel);
}

const announce = whenQuiet((words) => ($("verdict").textContent = words));

/** The three largest shares of the judge's votes, "96 for 1, 2 for 7". */
function votesInWords(votes) {
  const read = votes.map((share, c) => [share, c]).filter(([share]) => share >= 0.005);
  const leaders = read.sort((a, b) => b[0] - a[0]).slice(0, 3);
  return leaders.map(([share, c]) => `${Math.round(100 * share)} for ${c}`).join(", ");
}

function showSmall(digit, seed) {
  const button = $("more").children[digit.index - 1];
  paintTile(button, digit);
  button.ariaLabel = `Enlarge this digit, which the judge reads as ${most(digit.votes)}`;
  button.dataset.seed = seed;
}

/** One of the nine changes places with the large digit. */
function enlarge(i) {
  [mix.seeds[0], mix.seeds[i]] = [mix.seeds[i], mix.seeds[0]];
  ask();
}
