// Painting: digits, and drawings larger than life with what the network sees in them.

const CELL = 20; // units of a large canvas for a pixel of the digit

const grey = (level) => Math.round((level * 255) / (LEVELS - 1));

/** A digit on a canvas of its own size. */
function paintDigit(canvas, image) {
  const context = canvas.getContext("2d");
  const data = context.createImageData(WIDTH, HEIGHT);
  image.forEach((level, i) => data.data.set([grey(level), grey(level), grey(level), 255], 4 * i));
  context.putImageData(data, 0, 0);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The colour of a seen pixel, from dark to light blue, as in `draw_context`: ink is blue, too, for it is seen. */
function tinted(level) {
  const light = 0.45 + (0.55 * level) / (LEVELS - 1);
  return `rgb(${colour("seen").match(/[0-9a-f]{2}/gi).map((part) => Math.round(light * parseInt(part, 16)))})`;
}

/**
 * A digit of which only the pixels before `place` are drawn. With `field`, a function that tells whether a pixel is
 * seen from there, seen pixels are blue and the pixel itself is framed.
 */
function paintUnfinished(canvas, image, place, field) {
  const context = canvas.getContext("2d");
  const tints = Array.from({ length: LEVELS }, (_, level) => tinted(level));
  const later = colour("later");
  for (let i = 0; i < PIXELS; i++) {
    if (i >= place) context.fillStyle = later;
    else if (field && field(i)) context.fillStyle = tints[image[i]];
    else context.fillStyle = `rgb(${grey(image[i])} ${grey(image[i])} ${grey(image[i])})`;
    context.fillRect((i % WIDTH) * CELL, Math.floor(i / WIDTH) * CELL, CELL, CELL);
  }
  if (field && place < PIXELS) paintFrame(context, place);
}

function paintFrame(context, place) {
  for (const [stroke, width] of [["white", 9], [colour("here"), 5]]) { // white sets it off from any ground
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.strokeRect((place % WIDTH) * CELL - 1, Math.floor(place / WIDTH) * CELL - 1, CELL + 2, CELL + 2);
  }
}

/** The parts of a tile: a small digit and, below it, a strip for the judge's votes. */
function tileParts() {
  const canvas = element("canvas", { className: "digit", width: WIDTH, height: HEIGHT });
  return [canvas, element("span", { className: "strip" })];
}

/** A tile with a name below it. */
function tile(name) {
  const [canvas, strip] = tileParts();
  canvas.setAttribute("role", "img");
  return element("figure", {}, canvas, strip, element("span", { className: "as", textContent: name }));
}

function paintTile(box, { image, votes }) {
  paintDigit(box.children[0], image);
  box.children[1].style.backgroundImage = segments(votes);
}

/** Votes as one bar: a segment for each class, in its colour. */
function segments(votes) {
  let sum = 0;
  const parts = votes.map((share, index) => `var(--class-${index}) ${100 * sum}% ${100 * (sum += share)}%`);
  return `linear-gradient(to right, ${parts.join(", ")})`;
}

/** A share as the height of a bar, with its per cents above it unless they are next to nothing. */
function setBar(bar, share) {
  bar.style.setProperty("--vote", share);
  bar.dataset.vote = share < 0.01 ? "" : Math.round(100 * share);
}
