
// Lays out a bench from the record embedded above. Names, questions and replies are untrusted and go in as text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const models = data.models.map((model) => model.name), benchmarks = data.benchmarks;
const several = models.length > 1;
const count = (number, noun) => `${Number(number).toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const whole = (number) => Number(number).toLocaleString("en", { maximumFractionDigits: 0 });
const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
function gain(value, digits = 3) {
  const text = Math.abs(value).toFixed(digits);
  return (Number(text) === 0 ? "" : value > 0 ? "+" : "−") + text;
}
const rate = (value) => `${(100 * value).toFixed(1)}%`;
const times = (label) => benchmarks.find((one) => one.label === label).samples;
const titled = (label) => (times(label) > 1 ? `${label}@${times(label)}` : label);
const colour = (model) => `c${models.indexOf(model) % 8}`;
const named = (model) => el("span", { class: `model ${colour(model)}` }, el("i"), el("span", null, breakable(model)));

function section(id, title, lead, ...content) {
  return el("section", { id }, el("h2", null, title), lead ? el("p", { class: "lead" }, lead) : null, content);
}

// A row is {group: name of the rows below it} or {cells}.
function table(kind, heads, rows) {
  const body = rows.map((row) => row.group !== undefined
    ? el("tr", { class: "group" }, el("td", { colspan: heads.length }, el("span", null, breakable(row.group))))
    : el("tr", null, row.cells.map((value, i) => el("td", { class: heads[i][1] || null }, value))));
  return el("div", { class: "table whole" }, el("table", { class: kind },
    el("thead", null, el("tr", null, heads.map(([name, style]) => el("th", { class: style || null }, name)))), el("tbody", null, body)));
}

const narrow = matchMedia("(max-width: 760px)").matches;
const WIDTH = narrow ? 92 : 190, TALL = 22;

// A point with its interval on a scale that all of a table share.
function plotted(at, low, high, from, to, zero, style) {
  const x = (value) => 6 + ((value - from) / (to - from || 1)) * (WIDTH - 12), mid = TALL / 2;
  const cap = (end) => svg("path", { class: "whisker", d: `M${x(end).toFixed(1)} ${mid - 4}V${mid + 4}` });
  return svg("svg", { width: WIDTH, height: TALL, viewBox: `0 0 ${WIDTH} ${TALL}`, class: style, "aria-hidden": true },
    svg("line", { class: "grid", x1: x(to), x2: x(to), y1: 0, y2: TALL }),
    svg("line", { class: "zero", x1: x(zero), x2: x(zero), y1: 0, y2: TALL }),
    svg("path", { class: "whisker", d: `M${x(low).toFixed(1)} ${mid}H${x(high).toFixed(1)}` }), cap(low), cap(high),
    svg("circle", { class: "point", cx: x(at), cy: mid, r: 4.5 }));
}

// ---- Header

function header() {
  const rows = data.rows, sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  const facts = [
    ["Models", String(models.length)],
    ["Benchmarks", String(benchmarks.length)],
    ["Questions", whole(benchmarks.reduce((total, one) => total + one.questions, 0))],
    ["Replies", whole(sum("replies"))],
    ["Tokens sampled", whole(sum("reply_tokens"))],
    ["Seed", String(data.seed)],
  ];
  const title = data.suite || (benchmarks.length <= 3 ? benchmarks.map((one) => titled(one.label)).join(", ") : `${benchmarks.length} benchmarks`);
  return el("header", null,
    el("p", { class: "eyebrow" }, "A bench of spiral"),
    el("h1", null, title),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value)))),
    el("div", { class: "headline" }, headline()),
    el("div", { class: "status" },
      el("p", null, el("span", { class: data.notes.length ? "mark bad" : "mark" }), data.notes.length ? "Before reading the table:" : "Every question was asked, and every reply graded."),
      data.notes.length ? el("ul", null, data.notes.map((note) => el("li", null, note))) : null));
}

// One figure a model: the mean over benchmarks, or that of the only one.
function headline() {
  const shown = data.means.models.length ? data.means.models : benchmarks.length === 1 ? data.rows : [];
  return shown.slice(0, 4).map((row) => el("div", null,
    el("div", { class: "name" }, named(row.model)),
    el("div", { class: "big" }, (100 * row.accuracy).toFixed(1), el("small", null, "%")),
    el("div", { class: "from" }, `${data.means.models.length ? "mean of benchmarks" : "right"}, ${rate(row.low)} to ${rate(row.high)}`)));
}

// ---- Tables

const ends = (row, show) => el("div", { class: "within" }, show(row.accuracy ?? row.mean), el("small", { class: "muted" }, `${show(row.low)} to ${show(row.high)}`));
// One table for any number of models: with several, each benchmark is a group of rows.
const grouped = (rows, name, cells) => rows.flatMap((row, i) => {
  const first = several && (i === 0 || name(rows[i - 1]) !== name(row));
  return [...(first ? [{ group: name(row) }] : []), { cells: [several ? named(row.model) : el("b", null, breakable(name(row))), ...cells(row)] }];
});
const nameOf = (row) => (row.benchmark === undefined ? "Mean of benchmarks" : titled(row.benchmark));

function accuracies() {
  const repeated = benchmarks.some((one) => one.samples > 1);
  const partial = data.rows.some((row) => Math.abs(row.mean_grade - row.accuracy) > 5e-4);
  const heads = [[several ? "Model" : "Benchmark"], [""], ["Right, 95%", "num"], ...(repeated ? [["pass@k", "num"]] : []),
    ...(partial ? [["Mean grade", "num"]] : []), ["Questions", "num"], ["Cut", "num"], ["Unreadable", "num"], ["Tokens a reply", "num"], ["Tokens", "num"]];
  const plot = (row) => plotted(row.accuracy, row.low, row.high, 0, 1, 0, colour(row.model));
  const cells = (row) => {
    if (row.benchmark === undefined) return [plot(row), ends(row, share), ...(repeated ? [""] : []), ...(partial ? [""] : []), "", "", "", "", whole(row.reply_tokens)];
    const k = times(row.benchmark);
    return [plot(row), ends(row, share), ...(repeated ? [k > 1 ? share(row.pass_at[String(k)]) : "–"] : []), ...(partial ? [share(row.mean_grade)] : []),
      whole(row.questions), rate(row.cut), rate(row.unreadable), whole(row.mean_reply_tokens), whole(row.reply_tokens)];
  };
  const lead = `Share of replies that were right, with its 95% interval, drawn from 0 to 1: Wilson's where a question is asked once, over questions where it is asked more often.${repeated ? " pass@k: the chance that one of k replies is right." : ""} Cut: replies that ran out of tokens. Unreadable: no answer in the form that was asked for.`;
  return section("accuracy", "Accuracy", lead, table("bars", heads, grouped([...data.rows, ...data.means.models], nameOf, cells)));
}

function differences() {
  if (!data.differences.length) return null;
  const all = [...data.differences, ...data.means.differences];
  const far = Math.max(...all.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]), 0.02);
  const exact = data.differences.some((row) => row.p_value !== null);
  const heads = [["Model"], [""], ["Difference, 95%", "num"], ["Better", "num"], ["Worse", "num"], ...(exact ? [["McNemar p", "num"]] : [])];
  const cells = (row) => [plotted(row.mean, row.low, row.high, -far, far, 0, colour(row.model)), ends(row, gain),
    ...(row.benchmark === undefined ? ["", ""] : [whole(row.better), whole(row.worse)]),
    ...(exact ? [row.p_value === undefined ? "" : row.p_value === null ? "–" : format(row.p_value, 2)] : [])];
  const lead = `Against ${models[0]}, question by question: the difference in the share that was right, with the 95% interval of the paired bootstrap. Better and worse count the questions on which the two differ.`;
  return section("differences", "Differences", lead, table("bars", heads, grouped(all, nameOf, cells)));
}

// ---- Replies

const verdict = (reply) => reply.grade === null ? "not graded" : reply.right ? "right" : reply.finish === "no room" ? "not asked" : reply.grade > 0 ? `graded ${format(reply.grade, 2)}` : "wrong";
const KINDS = [["right", (reply) => reply.right], ["wrong", (reply) => !reply.right], ["wrong and cut", (reply) => !reply.right && reply.finish === "length"],
  ["wrong and unreadable", (reply) => !reply.right && !reply.readable], ["not graded", (reply) => reply.grade === null], ["not asked", (reply) => reply.finish === "no room"]];

function replies() {
  if (!data.replies.length) return null;
  const viewer = el("div", { class: "reader" }), list = el("div", { class: "list" });
  const kinds = KINDS.filter(([, is]) => data.replies.some(is));
  const choice = (label, values) => el("label", null, label, el("select", { on: { change: fill } },
    el("option", { value: "" }, "all"), values.map((value, i) => el("option", { value: i + 1 }, value))));
  const filters = [choice("Benchmark", benchmarks.map((one) => one.label)), choice("Model", models), choice("Result", kinds.map(([name]) => name)),
    el("label", null, "Text", el("input", { type: "search", placeholder: "in question or reply", on: { input: fill } }))];
  const [benchmark, model, kind, text] = filters.map((label) => label.lastChild);
  const number = el("p", { class: "muted found" });
  const controls = el("div", { class: "controls" }, el("button", { type: "button", on: { click: () => move(-1) } }, "previous"), el("button", { type: "button", on: { click: () => move(1) } }, "next"));
  let found = [], current = null;

  function fill() {
    const wanted = text.value.toLowerCase();
    found = data.replies.filter((reply) =>
      (!benchmark.value || reply.benchmark === benchmarks[benchmark.value - 1].label) && (!model.value || reply.model === models[model.value - 1])
      && (!kind.value || kinds[kind.value - 1][1](reply))
      && (!wanted || reply.text.toLowerCase().includes(wanted) || data.questions[reply.benchmark][reply.task][0].toLowerCase().includes(wanted)));
    list.replaceChildren(...found.map((reply) => item(reply, () => open(reply))));
    number.textContent = found.length ? count(found.length, found.length === 1 ? "reply" : "replie") : "No reply is like that; loosen the filters.";
    open(found.includes(current) ? current : found[0] || null);
  }
  function move(by) {
    const at = found.indexOf(current) + by;
    if (at >= 0 && at < found.length) open(found[at]);
  }
  function open(reply) {
    current = reply;
    found.forEach((one, i) => list.children[i].setAttribute("aria-current", String(one === reply)));
    const chosen = list.children[found.indexOf(reply)];
    // Not scrollIntoView, which would move the page as well.
    if (chosen && (chosen.offsetTop < list.scrollTop || chosen.offsetTop + chosen.offsetHeight > list.scrollTop + list.clientHeight)) list.scrollTop = chosen.offsetTop - 60;
    viewer.replaceChildren(...(reply ? [controls, ...read(reply)] : []));
  }
  fill();
  const lead = data.replies.length === data.num_replies ? "Every reply, with its question and the right answer."
    : `${whole(data.replies.length)} of ${whole(data.num_replies)} replies, right and wrong ones of each model and benchmark; replies.jsonl holds them all.`;
  return section("replies", "Replies", lead, el("div", { class: "replay" }, el("div", null, el("div", { class: "filters" }, filters), number, list), viewer));
}

function item(reply, open) {
  const k = times(reply.benchmark);
  return el("button", { type: "button", on: { click: open } },
    el("span", null, reply.task, k > 1 ? el("span", { class: "muted" }, ` · ${reply.sample + 1} of ${k}`) : null),
    el("span", { class: reply.right ? "good" : reply.grade === null ? "muted" : "bad" }, verdict(reply)),
    el("span", { class: "policies" }, several ? reply.model : benchmarks.length > 1 ? reply.benchmark : ""),
    el("span", { class: "muted" }, reply.finish === "length" ? "cut" : ""));
}

function read(reply) {
  const [prompt, gold] = data.questions[reply.benchmark][reply.task];
  const flags = [reply.finish === "length" ? "cut" : null, reply.readable || reply.finish === "no room" ? null : "unreadable"].filter(Boolean);
  const others = data.replies.filter((other) => other !== reply && other.benchmark === reply.benchmark && other.task === reply.task && other.sample === reply.sample);
  const text = (value, empty) => el("dd", null, el("div", { class: "text" }, value || empty));
  return [
    el("div", { class: `turn ${colour(reply.model)}` },
      el("header", null, el("b", null, breakable(reply.task)), el("span", { class: "muted" }, titled(reply.benchmark)), several ? named(reply.model) : null,
        el("span", { class: reply.right ? "good" : "bad" }, verdict(reply)), el("span", { class: "muted num" }, count(reply.tokens, "token")),
        flags.map((flag) => el("span", { class: "flag mild" }, flag))),
      el("dl", { class: "says" }, el("dt", null, "question"), text(prompt), el("dt", null, "gold"), text(gold),
        el("dt", null, "reply"), text(reply.text, reply.finish === "no room" ? "(not asked)" : "(nothing)"),
        reply.problem ? [el("dt", null, "note"), text(reply.problem)] : null)),
    ...others.map((other) => el("details", { class: `turn ${colour(other.model)}` },
      el("summary", null, named(other.model), " ", el("span", { class: other.right ? "good" : "bad" }, verdict(other)), ` · ${count(other.tokens, "token")}`),
      el("div", { class: "text" }, other.text || "(nothing)"))),
  ];
}

// ---- The suite's games, how it was asked

function games() {
  if (!data.games.length) return null;
  return section("games", "Games of the suite", "Each is a command of its own, since its opponent is outside of this program.",
    table("bars", [["Game"], [""], ["Command"]], data.games.map((game) => ({ cells: [breakable(game.game), el("span", { class: "muted" }, game.held_out ? "held out" : "trained on"), el("code", null, game.command)] }))));
}

function origin() {
  const plain = (rows) => el("table", { class: "plain" }, rows.map(([name, value]) => el("tr", null, el("td", null, name), el("td", null, value))));
  const asked = benchmarks.map((one) => [one.label, [`${count(one.questions, "question")}, ${count(one.samples, one.samples === 1 ? "reply" : "replie")} each`, `temperature ${one.temperature}`, one.top_p < 1 ? `top-p ${one.top_p}` : null, `at most ${[...new Set(data.rows.filter((row) => row.benchmark === one.label).map((row) => whole(row.max_new_tokens)))].join(" or ")} tokens`].filter(Boolean).join(", ")]);
  const made = Object.entries(data.plan.models).map(([name, how]) => [name, `${how.prompt} prompt, engine ${how.engine}, weights ${how.weights}`]);
  return section("origin", "How they were asked", null, el("details", null, el("summary", null, "Sampling, models and versions"), plain(asked), plain(made), plain(Object.entries(data.versions))));
}

const parts = [accuracies(), differences(), replies(), games(), origin()].filter(Boolean);
const head = header();
head.append(el("nav", { "aria-label": "Sections" }, parts.map((part) => el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent))));
document.getElementById("page").append(head, ...parts);
