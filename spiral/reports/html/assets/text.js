
// What a run that learns from text shows: bits per byte beside those of general compressors, and what it wrote.

const bits = "eval/bits_per_byte";

// The headline of such a run.
function text() {
  if (last(bits) === undefined) return null;
  const others = [["gzip -9", last(`${bits}_gzip`)], ["xz -9", last(`${bits}_xz`)]].filter(([, value]) => value !== undefined);
  return fact("Bits per byte of held-out text", format(last(bits)), fromTo(data.series[bits]),
    muted(others.map(([name, value]) => `${name}: ${format(value)}`).join(", ")));
}

function predicted() {
  return charted("text", "Text", "How well the model predicts text that it is not trained on.", [[null, [
    { title: "Bits per byte", unit: "bits", lead: true,
      caption: "What the model needs for a byte of held-out text: the step's estimate, and at the end all of it. General compressors read the same bytes and nothing before them.",
      lines: lines(["model", bits], ["gzip -9", `${bits}_gzip`, { dash: "4 3" }], ["xz -9", `${bits}_xz`, { dash: "1 3" }]) },
    { title: "Passes over the text", unit: "epochs", zero: true, lines: lines(["epochs", "text/epoch"]), caption: "Beyond 1 the model reads again what it has read." },
  ]]]);
}

function written() {
  if (!data.samples.length) return null;
  const steps = [...new Set(data.samples.map((sample) => sample.step))];
  const chosen = el("div"), choice = el("select", { on: { change: show } }, steps.map((step, i) => el("option", { value: i }, `step ${format(step, 9)}`)));
  choice.value = String(steps.length - 1);
  function show() {
    const found = data.samples.filter((sample) => sample.step === steps[choice.value]);
    chosen.replaceChildren(...found.map(({ prompt, text }) => el("article", { class: "turn c0" }, el("dl", { class: "says" },
      el("dt", null, "begins"), el("dd", { class: prompt ? "text" : "muted" }, prompt || "from nothing"),
      el("dt", null, "goes on"), el("dd", { class: "text" }, text)))));
  }
  show();
  return section("samples", "Samples", "What the model wrote at temperature 1: from nothing, and from beginnings of held-out documents.",
    el("div", { class: "filters" }, el("label", null, "At", choice)), chosen);
}
