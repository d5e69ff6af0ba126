
// Lays out an analysis of patterns from the record embedded above; what models and judges wrote is untrusted and goes in
// as text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const patterns = data.rubric.map((pattern) => pattern.name);
const policies = [...new Set(data.cells.map((cell) => cell.policy))];
const severalPolicies = policies.length > 1;
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const whole = (value) => Math.round(value).toLocaleString("en-US");
const share = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(0)}%`);
function gain(value) {
  const text = Math.abs(100 * value).toFixed(0);
  return `${text === "0" ? "" : value > 0 ? "+" : "−"}${text}%`;
}
const when = (steps) => (steps ? `${steps.includes("-") ? "steps" : "step"} ${steps.replace("-", "–")}` : "no step");

function section(id, title, lead, ...content) {
  return el("section", { id }, el("h2", null, title), lead ? el("p", { class: "lead" }, lead) : null, content);
}

// ---- Header

function header() {
  const calls = data.spent.reduce((sum, one) => sum + (one.calls || 0), 0), cost = data.spent.reduce((sum, one) => sum + (one.cost || 0), 0);
  const facts = [
    ["Sources", data.sources.join(", ")], ["Traces judged", data.judged === data.traces ? whole(data.traces) : `${whole(data.judged)} of ${whole(data.traces)}`],
    ["Patterns", String(patterns.length)], ["Calls", whole(calls)], ...(cost ? [["Cost", format(cost, 4)]] : []), ["Seed", String(data.seed)],
  ];
  const big = patterns.slice(0, 4).map((pattern, place) => el("div", null, el("div", { class: "name" }, pattern), figures(place)));
  return el("header", null,
    el("p", { class: "eyebrow" }, "An analysis of spiral"), el("h1", null, "Patterns of reasoning"),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value)))),
    el("div", { class: "headline" }, big),
    el("div", { class: "status" },
      el("p", null, el("span", { class: data.stopped || data.judged < data.traces ? "mark bad" : "mark" }), data.stopped ? "Ended early; what follows is what was judged by then."
        : data.judged < data.traces ? "Not every trace has a verdict of both readings." : "Every trace has a verdict of both readings."),
      data.notes.length ? el("ul", null, data.notes.map((note) => el("li", null, note))) : null));
}

// Of the first policy that has steps: its last stage, and beside it the first one; of others all traces together.
function figures(place) {
  const staged = data.transfer.filter((one) => one.stage !== null), own = staged.filter((one) => one.policy === staged[0].policy);
  const domain = ["games", "tasks"].find((name) => own.some((one) => one.patterns[0][name].judged));
  const rows = own.filter((one) => domain && one.patterns[0][domain].judged).map((one) => ({ steps: one.steps, ...one.patterns[place][domain] }));
  const tell = (entry, ...from) => [el("div", { class: "big" }, (100 * entry.share).toFixed(0), el("small", null, "%")), el("div", { class: "from" }, from)];
  if (rows.length > 1) return tell(rows.at(-1), `in ${domain} at the end, ${share(rows[0].share)} at first`);
  const entries = data.cells.map((cell) => cell.patterns[place]), sum = (key) => entries.reduce((total, entry) => total + entry[key], 0);
  if (!sum("judged")) return el("div", { class: "big" }, "–");
  return tell({ share: sum("shown") / sum("judged") }, `${whole(sum("shown"))} of ${count(sum("judged"), "trace")}`);
}

// ---- Tables

function cell(entry, signed) {
  if (!entry || entry.share === null || entry.share === undefined) return el("td", { class: "cell empty" }, el("div", null, "–"));
  const show = signed ? gain : share, sure = signed && (entry.low > 0 || entry.high < 0);
  const box = el("div", null, show(entry.share), el("small", null, `${show(entry.low)} to ${show(entry.high)}`));
  box.style.setProperty("--p", signed ? 0 : entry.share.toFixed(3));
  if (entry.judged) box.title = `${entry.shown} of ${count(entry.judged, "trace")}; by reading alone: ${entry.by_reading.map(share).join(", ")}`;
  return el("td", { class: `cell${signed ? " gain" : ""}${sure ? " sure" : ""}` }, box);
}

function table(left, right, rows) {
  const head = [...left.map((name) => el("th", { scope: "col", class: "name" }, name)), ...right.map((name) => el("th", { scope: "col" }, name))];
  return el("div", { class: "table" }, el("table", { class: "shares" }, el("thead", null, el("tr", null, head)), el("tbody", null, rows)));
}

function row(names, cells, first) {
  return el("tr", { class: first ? "first" : null }, names.map((name) => el("td", { class: "name" }, name)), cells);
}

function shares() {
  let last = null;
  const rows = data.cells.map((one) => {
    const first = last !== null && one.policy !== last.policy, again = last !== null && !first;
    const names = [...(severalPolicies ? [again ? "" : breakable(one.policy)] : []), again && last.steps === one.steps ? "" : when(one.steps), breakable(one.name),
      one.patterns[0].judged === one.traces ? String(one.traces) : `${one.patterns[0].judged} of ${one.traces}`];
    last = one;
    return row(names, one.patterns.map((entry) => cell(entry)), first);
  });
  return section("shares", "Shares of traces", "Share of traces that show a pattern, with Wilson’s 95% interval. A trace shows it where both readings say so.",
    charts(), table([...(severalPolicies ? ["Model"] : []), "Training", "Game or benchmark", "Traces"], patterns, rows));
}

// By stage of training, one chart a pattern: what the model shows in games, and what it shows in tasks.
function charts() {
  const staged = policies.flatMap((policy) => ["games", "tasks"].map((domain) => ({ policy, domain,
    rows: data.transfer.filter((one) => one.policy === policy && one.stage !== null && one.patterns[0][domain].judged) }))).filter((line) => line.rows.length);
  if (staged.length > 8 || !staged.some((line) => line.rows.length > 1)) return null;
  const middle = (steps) => { const ends = steps.split("-").map(Number); return Math.round((ends[0] + ends.at(-1)) / 2); };
  return el("div", { class: "charts" }, patterns.map((pattern, place) => chart({
    title: pattern, percent: true, zero: true,
    lines: staged.map(({ policy, domain, rows }, colour) => {
      const series = (key) => ({ x: rows.map((one) => middle(one.steps)), y: rows.map((one) => one.patterns[place][domain][key]), mean_x: [], mean_y: [], not_finite: 0 });
      return { label: severalPolicies && staged.length > 2 ? `${policy}, ${domain}` : domain, series: series("share"), low: series("low"), high: series("high"), colour };
    }),
  })));
}

function transfer() {
  const both = data.transfer.filter((one) => one.patterns.some((entry) => entry.difference !== null));
  if (!both.length) return null;
  const rows = both.flatMap((one) => one.patterns.map((entry, i) => row(
    [...(severalPolicies ? [i ? "" : breakable(one.policy)] : []), i ? "" : when(one.steps), entry.pattern],
    [cell(entry.games), cell(entry.tasks), cell(entry.difference, true)], i === 0)));
  return section("transfer", "Games against tasks", "What the model shows in its games beside what it shows in tasks, at the same stage of training; the difference with Newcombe’s 95% interval, bold where it does not hold 0.",
    table([...(severalPolicies ? ["Model"] : []), "Training", "Pattern"], ["in games", "in tasks", "tasks less games"], rows));
}

function changes() {
  if (!data.changes.length) return null;
  const rows = data.changes.map((one) => row([...(severalPolicies ? [breakable(one.policy)] : []), `${one.domain}s`, `${one.from.replace("-", "–")} to ${one.to.replace("-", "–")}`],
    patterns.map((pattern) => cell(one.patterns.find((entry) => entry.pattern === pattern), true))));
  return section("changes", "From the first stage to the last", "The share at the last stage less that at the first one, with Newcombe’s 95% interval, bold where it does not hold 0.",
    table([...(severalPolicies ? ["Model"] : []), "In", "Steps"], patterns, rows));
}

function agreement() {
  const kappa = (one) => one.low === null ? "–" : `${one.kappa === null ? "not defined" : one.kappa.toFixed(2)}`;
  const rows = data.agreement.map((one) => el("tr", null, el("td", null, one.pattern), el("td", null, whole(one.num)), el("td", null, one.num ? share(one.agreement) : "–"), el("td", null, kappa(one)),
    el("td", { class: "muted" }, one.low === null ? "" : `${one.low.toFixed(2)} to ${one.high.toFixed(2)}`)));
  const heads = ["pattern", "traces", "same verdict", "Cohen’s kappa", "95%"].map((name) => el("th", { scope: "col" }, name));
  const readings = data.readings.map((one, i) => [`Reading ${i + 1}`, `${one.judge}, rubric as ${one.wording}${Object.entries(one.without_verdict).map(([cause, times]) => `; ${cause}: ${times}`).join("")}`]);
  return section("agreement", "Agreement", "How far the two readings agree, beyond chance: 0 is chance, 1 is always. Not defined where both say one and the same of every trace.",
    el("div", { class: "table" }, el("table", { class: "plain ratings" }, el("thead", null, el("tr", null, heads)), el("tbody", null, rows))),
    el("table", { class: "plain" }, readings.map(([name, value]) => el("tr", null, el("td", null, name), el("td", null, value)))));
}

function rubric() {
  return section("rubric", "Rubric", null, el("dl", { class: "rubric" }, data.rubric.map((one) => [el("dt", null, one.name), el("dd", null, one.description), one.question === one.description ? null : el("dd", { class: "muted" }, one.question)])));
}

// ---- Traces

const said = (trace, pattern) => trace.verdicts.map((one) => (one.shown ? one.shown[pattern] : null));
const wholly = (trace) => trace.verdicts.every((one) => one.shown);
const shows = (trace, pattern) => wholly(trace) && said(trace, pattern).every(Boolean);
const differs = (trace, pattern) => wholly(trace) && new Set(said(trace, pattern)).size > 1;
const RESULTS = [["shows it", shows], ["does not show it", (trace, pattern) => wholly(trace) && !shows(trace, pattern)], ["readings differ", differs], ["no verdict", (trace) => !wholly(trace)]];

function traces() {
  const all = data.shown;
  const viewer = el("div", { class: "reader" }), list = el("div", { class: "list" }), number = el("p", { class: "muted found" });
  const unique = (of) => [...new Set(all.map(of))];
  const choice = (label, values, none) => el("label", null, label, el("select", { on: { change: fill } }, el("option", { value: "" }, none || "all"), values.map((value, i) => el("option", { value: i + 1 }, value))));
  const names = unique((one) => one.name), stages = unique((one) => `${one.policy}\n${one.stage}`).sort();
  const steps = (one) => (data.cells.find((found) => found.policy === one.policy && found.stage === one.stage) || { steps: "" }).steps;
  const stageNames = stages.map((key) => { const one = all.find((trace) => `${trace.policy}\n${trace.stage}` === key); return severalPolicies ? `${one.policy}, ${when(steps(one))}` : when(steps(one)); });
  const filters = [choice("Game or benchmark", names), choice("Training", stageNames), choice("Pattern", patterns, "any"), choice("Verdict", RESULTS.map(([name]) => name)),
    el("label", null, "Text", el("input", { type: "search", placeholder: "in trace or reasons", on: { input: fill } }))];
  const [name, stage, pattern, result, text] = filters.map((label) => label.lastChild);
  let found = [], current = null;

  function fill() {
    const wanted = text.value.toLowerCase(), asked = pattern.value ? [patterns[pattern.value - 1]] : patterns;
    found = all.filter((one) => (!name.value || one.name === names[name.value - 1]) && (!stage.value || `${one.policy}\n${one.stage}` === stages[stage.value - 1])
      && (!result.value || asked.some((own) => RESULTS[result.value - 1][1](one, own)))
      && (!wanted || one.text.toLowerCase().includes(wanted) || one.verdicts.some((verdict) => Object.values(verdict.reasons || {}).some((reason) => reason.toLowerCase().includes(wanted)))));
    list.replaceChildren(...found.map((one) => item(one, () => open(one))));
    number.textContent = found.length ? count(found.length, "trace") : "No trace is like that; loosen the filters.";
    open(found.includes(current) ? current : found[0] || null);
  }
  function open(trace) {
    current = trace;
    found.forEach((one, i) => list.children[i].setAttribute("aria-current", String(one === trace)));
    const chosen = list.children[found.indexOf(trace)];
    // Not scrollIntoView, which would move the page as well.
    if (chosen && (chosen.offsetTop < list.scrollTop || chosen.offsetTop + chosen.offsetHeight > list.scrollTop + list.clientHeight)) list.scrollTop = chosen.offsetTop - 60;
    viewer.replaceChildren(...(trace ? read(trace, steps(trace)) : []));
  }
  fill();
  const lead = all.length === data.traces ? "Every trace, with what each reading said of it, and why. The judge saw the text alone." : `${whole(all.length)} of ${whole(data.traces)} traces, spread over them; traces.jsonl holds them all.`;
  return section("traces", "Traces", lead, el("div", { class: "replay" }, el("div", null, el("div", { class: "filters" }, filters), number, list), viewer));
}

function item(trace, open) {
  const shown = patterns.filter((pattern) => shows(trace, pattern)).length;
  return el("button", { type: "button", on: { click: open } },
    el("span", null, trace.name), el("span", { class: "score" }, wholly(trace) ? `${shown} of ${patterns.length}` : "no verdict"),
    el("span", { class: "policies" }, severalPolicies ? `${trace.policy} · ` : "", trace.where), el("span", { class: "muted" }, patterns.some((pattern) => differs(trace, pattern)) ? "readings differ" : ""));
}

function read(trace, steps) {
  const answer = (one, pattern) => el("td", null, one.shown ? [el("b", { class: one.shown[pattern] ? "good" : "no" }, one.shown[pattern] ? "shown" : "not shown"), el("span", { class: "muted" }, one.reasons[pattern])] : el("span", { class: "muted" }, one.problem));
  const cut = trace.text.length < trace.chars || trace.chars > data.max_chars;
  return [
    el("h4", null, breakable(trace.name), el("span", { class: "unit" }, `${trace.policy}, ${trace.step === null ? "no step" : `step ${trace.step}`} · ${trace.where}`),
      trace.right === null ? null : el("span", { class: trace.right ? "good" : "bad" }, trace.right ? "right" : "wrong"), cut ? el("span", { class: "flag mild" }, `${whole(trace.chars)} characters, cut`) : null),
    el("table", { class: "verdicts" }, el("thead", null, el("tr", null, el("th", { scope: "col" }, "pattern"), trace.verdicts.map((_, i) => el("th", { scope: "col" }, `reading ${i + 1}`)))),
      el("tbody", null, patterns.map((pattern) => el("tr", { class: differs(trace, pattern) ? "differ" : null }, el("td", null, pattern), trace.verdicts.map((one) => answer(one, pattern)))))),
    el("dl", { class: "says" }, el("dt", null, "trace"), el("dd", null, el("div", { class: "text" }, trace.text || "(nothing)"))),
  ];
}

const parts = [shares(), transfer(), changes(), agreement(), traces(), rubric()].filter(Boolean);
const head = header();
head.append(el("nav", { "aria-label": "Sections" }, parts.map((part) => el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent))));
document.getElementById("page").append(head, ...parts);
