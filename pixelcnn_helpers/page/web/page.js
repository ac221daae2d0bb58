// The start of the page.

$("count").textContent = about.weights.toLocaleString("en");
$("greys").textContent = LEVELS;
mix.listeners.push(({ label, seed, temperature }) => {
  const asked = [];
  label.forEach((share, c) => share > 0 && asked.push(`${c}: ${+share.toFixed(4)}`));
  const warmth = temperature === 1 ? "" : `, temperature=${temperature}`;
  $("python").textContent = `import pixelcnn_helpers as pch

model, _ = pch.load_pretrained("between-mnist")
label = pch.soft_label({${asked.join(", ")}}, ${CLASSES})
image = pch.sample(model, labels=label, seed=${seed}${warmth})`;
});
try {
  artist.start();
  startInside();
  startHalf();
  startMix();
} catch (error) {
  tell(`This page cannot draw here: ${error.message}`);
}
matchMedia("(prefers-color-scheme: dark)").onchange = () => {
  if (!inside.playing) stopAt(inside.place);
  showDraft();
};
