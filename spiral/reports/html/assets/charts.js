
"use strict";
// Draws line charts as inline SVG, and makes elements whose strings are text. Colours come from the style sheet, so they
// follow the theme.

const SVG = "http://www.w3.org/2000/svg";
const height = (spec) => (spec.lead ? 240 : spec.small ? 148 : 178);

// Strings become text nodes, never markup: everything here may come from a game or a model. What would hide or reorder
// text was written as escapes before.
function put(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  const present = children.flat(3).filter((child) => child !== null && child !== undefined);
  node.append(...present);
  return node;
}
const el = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);

// A true minus sign, and no trailing zeros.
function format(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  let text;
  if (size === 0) text = "0";
  else if (size < 1e-4) text = value.toExponential(1);
  else if (size >= 1e6) text = `${Number((value / 1e6).toPrecision(digits))}M`;
  else if (size >= 1e4) text = `${Number((value / 1e3).toPrecision(digits))}k`;
  else if (size >= 1000) text = String(Math.round(value));
  else text = String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}
const percent = (value, digits = 3) =>
  value === null || value === undefined ? "–" : `${format(100 * value, digits)}%`;
const signed = (value, digits = 3) => (value > 0 ? "+" : "") + format(value, digits);

// A long name may break after a slash.
const breakable = (name) => name.split("/").flatMap((part, i) => (i ? ["/", el("wbr"), part] : [part]));

function ticks(low, high, count, whole) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function nearest(sorted, value) {
  let low = 0, high = sorted.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle;
    else high = middle;
  }
  return Math.abs(sorted[low] - value) <= Math.abs(sorted[high] - value) ? low : high;
}

// A chart is {title, unit, caption, lines, zero, percent, lead, small, marks}; a line {label, series, low, high, dash, thin}, where low and
// high are the series that bound its interval, and a thin one is a run behind the mean of several, without a name; a mark
// {step, since, number, severe} is something that happened.
function chart(spec) {
  const lines = spec.lines.map((line, i) => ({ ...line, colour: `c${(line.colour ?? i) % 8}`, dash: line.dash || ((line.colour ?? i) > 7 ? "2 3" : null) }));
  const show = spec.percent ? percent : format;
  const plot = el("div", { class: "plot" });
  const named = lines.filter((line) => !line.thin);
  const lost = named.reduce((sum, line) => sum + line.series.not_finite, 0);
  const caption = [spec.caption, lost ? `${lost} values were not finite and are left out.` : ""].filter(Boolean).join(" ");
  const figure = el("figure", { class: spec.lead ? "lead" : null },
    el("h4", null, el("span", null, breakable(spec.title)), spec.unit ? el("span", { class: "unit" }, spec.unit) : null),
    el("div", { class: "legend" }, named.map((line) => key(line, named.length > 1, show))),
    plot, caption ? el("figcaption", null, caption) : null);
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(plot.clientWidth);
    if (now && now !== width) draw(plot, (width = now), lines, spec, show);
  }).observe(plot);
  return figure;
}

function key(line, named, show) {
  const last = line.series.y.at(-1);
  const stroke = svg("svg", { width: 18, height: 8, class: line.colour, "aria-hidden": true },
    svg("path", { d: "M1 4H17", class: "line", "stroke-dasharray": line.dash }));
  return el("span", null, stroke, named ? line.label : "last", el("b", null, show(last)));
}

function scales(lines, spec, width) {
  const xs = lines.flatMap((line) => [line.series.x[0], line.series.x.at(-1)]).filter((x) => x !== undefined);
  const ys = lines.flatMap((line) => [line.series.y, line.low ? line.low.y : [], line.high ? line.high.y : []]).flat();
  if (spec.zero) ys.push(0);
  let [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let y0 = ys.reduce((a, b) => Math.min(a, b), Infinity), y1 = ys.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!xs.length) [x0, x1, y0, y1] = [0, 1, 0, 1];
  const last = x1, single = x0 === x1;
  if (single) [x0, x1] = [x0 - 1, x1 + 1];
  if (y0 === y1) {
    const room = Math.abs(y0) || 1;
    [y0, y1] = y0 === 0 ? [0, 1] : [y0 - room / 2, y1 + room / 2];
  }
  const room = 0.05 * (y1 - y0);
  const floor = y0 === 0 ? 0 : y0 - room;
  const ceiling = y1 === 0 ? 0 : y1 + room;
  const marks = ticks(floor, ceiling, spec.lead ? 7 : spec.small ? 4 : 5, false).map((at) => [at, spec.percent ? percent(at) : format(at, 4)]);
  const left = 12 + 6.2 * Math.max(...marks.map(([, text]) => text.length));
  const box = { left, right: width - 8, top: 8, bottom: height(spec) - 24 };
  return {
    box, marks, x0, x1, last, single,
    x: (step) => box.left + ((step - x0) / (x1 - x0)) * (box.right - box.left),
    y: (value) => box.bottom - ((value - floor) / (ceiling - floor)) * (box.bottom - box.top),
    step: (px) => x0 + ((px - box.left) / (box.right - box.left)) * (x1 - x0),
  };
}

function path(xs, ys, scale) {
  return xs.map((x, i) => `${i ? "L" : "M"}${scale.x(x).toFixed(1)} ${scale.y(ys[i]).toFixed(1)}`).join("");
}

function axes(scale, spec) {
  const { box } = scale;
  const parts = scale.marks.map(([at, text]) => {
    const y = scale.y(at).toFixed(1);
    return [svg("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: at === 0 ? "zero" : "grid" }),
      svg("text", { x: box.left - 7, y: Number(y) + 3.6, "text-anchor": "end" }, text)];
  });
  // The last step is always named, the round ones before it where they leave it room.
  const round = ticks(scale.x0, scale.x1, Math.max(2, (box.right - box.left) / 75), true);
  const steps = scale.single ? [scale.last] : [...round.filter((at) => scale.x(at) < box.right - 46), scale.last];
  const labels = steps.map((at, i) => svg("text", { x: scale.x(at), y: box.bottom + 16,
    "text-anchor": scale.single ? "middle" : at === scale.last ? "end" : i ? "middle" : "start" }, i ? format(at, 6) : `step ${format(at, 6)}`));
  return [...parts, ...labels];
}

// Of a noisy curve the mean interval of each stretch, as of the thick line.
function band(low, high, noisy, scale) {
  const [x, y] = noisy ? ["mean_x", "mean_y"] : ["x", "y"];
  if (!low || !high || !low[x].length || low[x].length !== high[x].length) return null;
  const back = path([...high[x]].reverse(), [...high[y]].reverse(), scale).replace("M", "L");
  return svg("path", { d: `${path(low[x], low[y], scale)}${back}Z`, class: "band" });
}

// A rule where something was named, with its number in the list, and a shade over the steps from which it was so.
function marked(mark, scale, before) {
  const { box, x0, x1 } = scale;
  if (mark.step === null || mark.step < x0 || mark.step > x1) return null;
  const at = scale.x(mark.step).toFixed(1), from = scale.x(Math.max(x0, Math.min(mark.since ?? mark.step, mark.step)));
  // Numbers that would lie on each other go down a line.
  const row = before.filter((other) => other.step !== null && Math.abs(scale.x(other.step) - scale.x(mark.step)) < 15).length % 6;
  return svg("g", { class: mark.severe ? "mark severe" : "mark" },
    svg("title", null, mark.label),
    svg("rect", { x: from.toFixed(1), y: box.top, width: Math.max(0, scale.x(mark.step) - from).toFixed(1), height: box.bottom - box.top }),
    svg("line", { x1: at, x2: at, y1: box.top, y2: box.bottom }),
    svg("text", { x: Number(at) - 3, y: box.top + 9 + 12 * row, "text-anchor": "end" }, String(mark.number)));
}

function drawn(line, scale) {
  const { x, y, mean_x, mean_y } = line.series;
  if (line.thin) return svg("g", { class: line.colour }, svg("path", { d: path(x, y, scale), class: "raw" }));
  const parts = [];
  const noisy = mean_x.length > 0;
  const interval = band(line.low, line.high, noisy, scale);
  if (interval) parts.push(interval);
  parts.push(svg("path", { d: path(x, y, scale), class: noisy ? "raw" : "line", "stroke-dasharray": noisy ? null : line.dash }));
  if (noisy) parts.push(svg("path", { d: path(mean_x, mean_y, scale), class: "line", "stroke-dasharray": line.dash }));
  if (x.length < 30) x.forEach((at, i) => parts.push(svg("circle", { cx: scale.x(at), cy: scale.y(y[i]), r: x.length > 1 ? 2 : 3.5, class: "dot" })));
  return svg("g", { class: line.colour }, parts);
}

function draw(plot, width, lines, spec, show) {
  const scale = scales(lines, spec, width);
  const label = `${spec.title}. ${lines.filter((line) => !line.thin).map((l) => l.series.x.length
    ? `${l.label}: ${show(l.series.y[0])} at step ${l.series.x[0]}, ${show(l.series.y.at(-1))} at step ${l.series.x.at(-1)}`
    : `${l.label}: no values`).join("; ")}`;
  // The plot is the size of its viewBox; paper, which is another width, scales it.
  const root = svg("svg", { viewBox: `0 0 ${width} ${scale.box.bottom + 24}`, role: "img", tabindex: 0, "aria-label": label },
    axes(scale, spec), lines.map((line) => drawn(line, scale)),
    (spec.marks || []).map((mark, i, all) => marked(mark, scale, all.slice(0, i))));
  plot.replaceChildren(root);
  hover(plot, root, lines.filter((line) => !line.thin), scale, show, width);
}

function hover(plot, root, lines, scale, show, width) {
  const steps = [...new Set(lines.flatMap((line) => line.series.x))].sort((a, b) => a - b);
  if (!steps.length) return;
  const marks = svg("g", { "aria-hidden": true });
  const tip = el("div", { class: "tip", hidden: true });
  root.append(marks);
  plot.append(tip);
  let at = steps.length - 1;
  const hide = () => { tip.hidden = true; marks.replaceChildren(); };
  const move = (index) => {
    at = Math.max(0, Math.min(steps.length - 1, index));
    const step = steps[at], x = scale.x(step);
    marks.replaceChildren(svg("line", { x1: x, x2: x, y1: scale.box.top, y2: scale.box.bottom, class: "cursor" }));
    tip.replaceChildren(el("div", { class: "muted num" }, `step ${step}`));
    for (const line of lines) {
      const i = nearest(line.series.x, step), own = line.series.x[i];
      // Curves are thinned apart, so another curve's point may be a few steps away.
      if (own === undefined || Math.abs(own - step) > (scale.x1 - scale.x0) / 50) continue;
      marks.append(svg("circle", { cx: scale.x(own), cy: scale.y(line.series.y[i]), r: 3.5, class: `ring ${line.colour}` }));
      const band = line.low && line.high && line.low.x[i] === own && line.high.x[i] === own
        ? ` (${show(line.low.y[i])} to ${show(line.high.y[i])})` : "";
      tip.append(el("div", { class: line.colour }, el("i"), lines.length > 1 ? `${line.label} ` : "",
        el("b", null, show(line.series.y[i], 4)), band, own === step ? "" : ` at ${own}`));
    }
    tip.hidden = false;
    const left = x + 14 + tip.offsetWidth > width ? x - 14 - tip.offsetWidth : x + 14;
    // Above the plot, so as not to cover what it speaks of.
    tip.style.transform = `translate(${Math.max(0, left)}px, ${-4 - tip.offsetHeight}px)`;
  };
  root.addEventListener("pointermove", (event) => {
    const bounds = root.getBoundingClientRect();
    move(nearest(steps, scale.step(((event.clientX - bounds.left) * width) / bounds.width)));
  });
  root.addEventListener("pointerleave", hide);
  root.addEventListener("blur", hide);
  root.addEventListener("focus", () => { if (root.matches(":focus-visible")) move(at); });
  root.addEventListener("keydown", (event) => {
    const stride = event.shiftKey ? Math.ceil(steps.length / 20) : 1;
    const next = { ArrowLeft: at - stride, ArrowRight: at + stride, Home: 0, End: steps.length - 1, Escape: null }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (next === null) hide();
    else move(next);
  });
}
