// How it draws: the large digit again, up to a pixel, with what the network sees there, and the shares of the greys.

const inside = {
  digit: null, // {image, logits, votes, chosen}: chosen holds the pixels that the reader decided
  before: [], // {digit, place} before each of the reader's decisions
  place: 13 * WIDTH + 14, // as many pixels are drawn
  playing: 0, // the animation frame that will go on
};
const SECONDS = 6; // for a whole digit, drawn slowly

function startInside() {
  for (let level = 0; level < LEVELS; level++) {
    const column = element("div", {}, element("i", { className: "vote" }));
    const swatch = element("span", { className: "swatch" });
    swatch.style.backgroundColor = `rgb(${grey(level)} ${grey(level)} ${grey(level)})`;
    const bar = element("button", { type: "button", className: "bar" }, column, swatch);
    bar.onclick = () => decide(level);
    $("shares").append(bar);
  }
  for (const name of ["as chance drew it", "with your choice"]) $("undo").before(tile(name));
  $("slow").onpointerdown = $("slow").onpointermove = (event) => {
    if (event.buttons !== 1) return;
    const box = $("slow").getBoundingClientRect();
    const within = (count, share) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    const row = within(HEIGHT, (event.clientY - box.top) / box.height);
    stopAt(row * WIDTH + within(WIDTH, (event.clientX - box.left) / box.width));
  };
  $("slow").onkeydown = (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -WIDTH, ArrowDown: WIDTH };
    const to = { Home: 0, End: PIXELS - 1 }[event.key] ?? Math.min(inside.place, PIXELS - 1) + steps[event.key];
    if (event.key === " ") inside.playing ? stopAt(inside.place) : play(inside.place);
    else if (to >= 0 && to < PIXELS) stopAt(to);
    if (event.key === " " || event.key in steps || !Number.isNaN(to)) event.preventDefault();
  };
  $("play").onclick = () => (inside.playing ? stopAt(inside.place) : play(0));
  $("onward").onclick = () => {
    $("play").focus(); // this button hides
    play(inside.place);
  };
  $("undo").onclick = () => {
    const { digit, place } = inside.before.pop();
    inside.digit = digit;
    if (!inside.before.length) $("play").focus(); // this button hides
    stopAt(place);
  };
  mix.listeners.push((digit) => {
    Object.assign(inside, { digit: { ...digit, chosen: [] }, before: [] });
    $("slow").ariaBusy = "false";
    if (inside.playing) showInside(inside.place);
    else stopAt(inside.place);
  });
}

/** Whether pixel `other` is in the receptive field of `place`. */
function sees(place, other) {
  const rows = about.field;
  const reach = rows.length - 1;
  const up = Math.floor(place / WIDTH) - Math.floor(other / WIDTH);
  const right = (other % WIDTH) - (place % WIDTH);
  return up >= 0 && up <= reach && Math.abs(right) <= reach && rows[reach - up][reach + right] === "1";
}

function stopAt(place) {
  cancelAnimationFrame(inside.playing);
  inside.playing = 0;
  inside.place = place;
  if (inside.digit) showInside(place);
}

/** Draw slowly from a pixel on; a finished digit from the top. */
function play(place) {
  const first = place < PIXELS ? place : 0;
  let began;
  const frame = (now) => {
    began ??= now;
    let place = first + Math.floor(((now - began) / 1000 / SECONDS) * PIXELS);
    if (calm.matches) place -= place % WIDTH; // whole rows
    inside.place = Math.min(Math.max(place, 0), PIXELS);
    if (inside.place === PIXELS) {
      stopAt(PIXELS);
    } else {
      showInside(inside.place);
      inside.playing = requestAnimationFrame(frame);
    }
  };
  inside.playing = requestAnimationFrame(frame);
  showInside(first);
}

/** While it draws slowly only the drawing changes; where it stops, also what the network sees, and the shares. */
function showInside(place) {
  const { digit, playing } = inside;
  const stopped = !playing && place < PIXELS;
  paintUnfinished($("slow"), digit.image, place, stopped ? (other) => sees(place, other) : null);
  $("play").textContent = playing ? "Stop here" : "Draw slowly";
  $("onward").hidden = !stopped || place === 0;
  showEnds();
  $("shares").classList.toggle("idle", !stopped);
  if (!stopped) {
    say("slow-words", playing ? "Drawing …" : "Finished. Choose a pixel to look back at it.");
    for (const bar of $("shares").children) {
      bar.disabled = true;
      bar.ariaPressed = "false";
      setBar(bar, 0);
    }
    return;
  }
  const { temperature } = mix.large;
  const logits = digit.logits.subarray(place * LEVELS, (place + 1) * LEVELS);
  const shares = softmax(logits.map((logit) => logit / temperature));
  const drawn = digit.image[place];
  [...$("shares").children].forEach((bar, level) => {
    bar.disabled = false;
    setBar(bar, shares[level]);
    bar.ariaPressed = level === drawn;
    bar.ariaLabel = `Grey ${level} of ${LEVELS - 1}: ${percent(shares[level])}${level === drawn ? ", drawn" : ""}`;
  });
  const where = `Row ${Math.floor(place / WIDTH) + 1}, column ${(place % WIDTH) + 1} of ${HEIGHT}`;
  const whose = digit.chosen.includes(place) ? "You chose" : "Chance chose";
  const given = `to which the network gave ${percent(shares[drawn])}${atTemperature(temperature)}`;
  say("slow-words", `${where}. ${whose} grey ${drawn} of ${LEVELS - 1}, ${given}. ${seenInWords(place)}`);
}

function seenInWords(place) {
  let seen = 0;
  for (let other = 0; other < place; other++) seen += sees(place, other);
  if (place === 0) return "Nothing is drawn yet: it sees nothing.";
  return seen === place ? "It sees all that is drawn so far." : `It sees ${seen} of the ${place} pixels drawn so far.`;
}

/** Once the reader has chosen: the whole digit, as chance drew it and as it becomes with the choice. */
function showEnds() {
  const [chance, choice] = $("ends").children;
  $("ends").hidden = !inside.before.length;
  if ($("ends").hidden) return;
  for (const [box, digit] of [[chance, mix.large], [choice, inside.digit]]) {
    paintTile(box, digit);
    box.firstChild.ariaLabel = `${box.lastChild.textContent}: the judge reads ${most(digit.votes)}`;
  }
}

/** The reader's own choice at a pixel: what came before is kept, the rest is drawn anew with the same noise. */
function decide(level) {
  const { digit, place } = inside;
  const { large } = mix;
  const known = Int8Array.from(digit.image, (drawn, i) => (i < place ? drawn : i === place ? level : -1));
  const wanted = { label: large.label, seed: large.seed, known };
  $("slow").ariaBusy = "true";
  artist.draw("inside", [wanted], large.temperature, (drawn, current) => {
    if (!current || large !== mix.large) return;
    inside.before.push({ digit, place });
    inside.digit = { ...drawn, chosen: [...digit.chosen.filter((earlier) => earlier < place), place] };
    $("slow").ariaBusy = "false";
    stopAt(place);
  });
}
