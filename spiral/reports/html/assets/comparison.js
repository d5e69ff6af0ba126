
// Lays out a comparison of runs from the data embedded above; every name in it is untrusted and goes in as a text node.

const data = JSON.parse(document.getElementById("data").textContent);
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function lines(metric) {
  return metric.groups.flatMap((group, colour) => [
    // Thin lines first, so that the mean lies over them. A group of one run is its own mean.
    ...(group.runs.length > 1 ? group.runs.map((run) => ({ label: `seed ${run.seed}`, series: run.series, thin: true, colour })) : []),
    ...(group.runs.length ? [{ label: group.label, series: group.mean, low: group.runs.length > 1 ? group.low : null,
      high: group.runs.length > 1 ? group.high : null, colour }] : []),
  ]);
}

function table(metric) {
  const rows = metric.groups.map((group, i) => {
    const last = group.last;
    const mark = svg("svg", { width: 18, height: 8, class: `c${i % 8}`, "aria-hidden": true }, svg("path", { d: "M1 4H17", class: "line" }));
    const name = el("th", { scope: "row" }, mark, " ", group.label);
    if (!last) return el("tr", null, name, el("td", { class: "num" }, count(group.runs.length, "run")), el("td", { colspan: 4, class: "muted" },
      group.runs.length ? "no step that all runs have" : "not measured"));
    return el("tr", null, name,
      el("td", { class: "num" }, group.runs.length < group.num_runs ? `${group.runs.length} of ${group.num_runs}` : String(group.runs.length)),
      el("td", { class: "num" }, String(last.step)), el("td", { class: "num" }, el("b", null, format(last.mean, 4))),
      el("td", { class: "num" }, `${format(last.low, 4)} to ${format(last.high, 4)}`),
      el("td", { class: "muted" }, last.values.map(({ seed, value }) => `${seed}: ${format(value, 4)}`).join(", ")));
  });
  return el("div", { class: "table" }, el("table", null,
    el("thead", null, el("tr", null, ["group", "runs", "step", "mean", "lowest to highest", "by seed"].map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", null, rows)));
}

function section(metric) {
  return el("section", null, el("h2", null, breakable(metric.title)), metric.name === metric.title ? null : el("p", { class: "lead" }, metric.name),
    el("div", { class: "charts" }, chart({ title: "By step", lines: lines(metric), lead: true,
      caption: "Thick: the mean of a group's runs, at the steps that all of them have. Thin: each run. Shaded: from the lowest run to the highest." })),
    table(metric));
}

document.getElementById("page").append(
  el("header", null, el("p", { class: "eyebrow" }, "Runs compared by spiral"),
    el("h1", null, `${count(data.num_runs, "run")} in ${count(data.groups.length, "group")}`),
    el("dl", { class: "facts" }, data.groups.map((group) => el("div", null, el("dt", null, group.label),
      el("dd", null, group.runs.map((run) => `${run.name} (seed ${run.seed})`).join(", ")))))),
  ...data.metrics.map(section));
