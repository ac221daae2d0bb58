// What all sections of the page share: the networks' description, and the worker that draws.
"use strict";

const $ = (id) => document.getElementById(id);
const about = JSON.parse($("about").textContent);
const [HEIGHT, WIDTH] = about.network.size;
const PIXELS = HEIGHT * WIDTH;
const { levels: LEVELS, classes: CLASSES } = about.network.config;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const artist = {
  shows: new Map(), // the id of a job -> {channel, show}: what to call with its digits
  latest: {}, // channel -> the id of the job asked for last
  jobs: 0,

  start() {
    const source = new Blob([$("worker").textContent], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(source));
    this.worker.onerror = (event) => tell(`The drawing failed: ${event.message}`);
    this.worker.onmessage = ({ data }) => {
      if (data.ready) document.documentElement.dataset.kernel = data.simd ? "simd" : "plain";
      else this.show(data);
    };
    this.worker.postMessage({ about, floats: $("floats").textContent, wasm: $("wasm").textContent });
  },

  /**
   * Ask for digits {label, seed, known} in place of those asked for before on this channel. `show(digit, current)` gets
   * each of them; `current` is false for one that was drawn for an older request.
   */
  draw(channel, digits, temperature, show) {
    this.latest[channel] = ++this.jobs;
    this.shows.set(this.jobs, { channel, show });
    this.worker.postMessage({ channel, id: this.jobs, digits, temperature });
  },

  show(digit) {
    const { id, channel } = digit;
    this.shows.get(id).show(digit, id === this.latest[channel]);
    for (const [older, job] of this.shows) if (older < id && job.channel === channel) this.shows.delete(older);
  },
};

function tell(problem) {
  $("notice").textContent = problem;
  $("notice").hidden = false;
}

/** Words under a drawing; a screen reader speaks them while the reader is at work in their section. */
function say(id, words) {
  if ($(id).textContent === words) return;
  $(id).ariaLive = $(id).closest("section").contains(document.activeElement) ? "polite" : "off";
  $(id).textContent = words;
}

/** A new element with properties and children. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function option(value, text, selected) {
  return new Option(text, value, selected, selected);
}

const article = (digit) => (+digit === 8 ? "an" : "a");
const withArticle = (digit) => `${article(digit)} ${digit}`;
const percent = (share) => `${share > 0 && share < 0.01 ? "<1" : Math.round(100 * share)} %`;
const most = (shares) => shares.indexOf(Math.max(...shares)); // the class or grey with the largest share
const hundredths = (share) => share.toFixed(2);
const atTemperature = (temperature) => (temperature === 1 ? "" : ` at temperature ${hundredths(temperature)}`);

/** Calls `action` once things have been quiet for a while, so that a screen reader is not talked over. */
function whenQuiet(action) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(action, 700, ...values);
  };
}
