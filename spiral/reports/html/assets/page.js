
// Lays out the page from the data embedded above; every name and text in it is untrusted and goes in as a text node.

const data = JSON.parse(document.getElementById("data").textContent);
const names = Object.keys(data.series);
const shown = new Set();

// The series of a name, marked as shown: what nobody takes ends up under "All other metrics".
function take(name) {
  if (!Object.hasOwn(data.series, name)) return null;
  shown.add(name);
  return data.series[name];
}

// [{label, series}] for those of [label, name] that the run has.
const lines = (...pairs) => pairs.map(([label, name, more]) => ({ label, series: take(name), ...more })).filter((line) => line.series);

const matches = (pattern) => names.map((name) => pattern.exec(name)).filter(Boolean);
const byNumber = (a, b) => Number(a) - Number(b);
const last = (name) => (Object.hasOwn(data.series, name) ? data.series[name].y.at(-1) : undefined);
const ever = (name) => Object.hasOwn(data.series, name) && data.series[name].y.some((value) => value !== 0);

const labels = [...new Set([
  ...matches(/^play\/(.+)\/(?:return_p\d+|games|turns|illegal_rate)$/).map((m) => m[1]),
  ...matches(/^eval\/(.+?)\/(?:nash_conv|illegal_mass|vs\/)/).map((m) => m[1]),
  ...Object.keys(data.pool),
  ...Object.keys(data.policy),
  ...data.episodes.map((episode) => episode.game),
])];
// A game with arguments is called NAME(key=value) wherever something is measured of it.
const games = [...new Set([...data.games.filter((name) => !labels.some((label) => label.startsWith(`${name}(`))), ...labels])];

function chairs(prefix, suffix = "") {
  const found = names.filter((name) => name.startsWith(prefix) && name.endsWith(suffix))
    .map((name) => name.slice(prefix.length, name.length - suffix.length));
  return found.filter((chair) => /^\d+$/.test(chair)).sort(byNumber);
}
const perChair = (prefix, suffix = "") =>
  lines(...chairs(prefix, suffix).map((p) => [`player ${p}`, prefix + p + suffix, { colour: Number(p) }]));

function opponents(game) {
  const start = `eval/${game}/vs/`;
  const found = names.filter((name) => name.startsWith(start)).map((name) => /^(.+)\/p\d+\/[^/]+$/.exec(name.slice(start.length)));
  return [...new Set(found.filter(Boolean).map((m) => m[1]))];
}

function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${format(seconds)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

// ---- Header

function header() {
  const total = data.steps, done = total ? Math.min(data.done, total) : data.done;
  const facts = [
    [games.length === 1 ? "Game" : "Games", games.join(", ") || "unknown"],
    ["Model", data.model || "unknown"],
    ["Steps", total ? `${done} of ${total}` : String(done)],
    ["Time in steps", data.totals["time/step_s"] ? duration(data.totals["time/step_s"]) : "not recorded"],
    ["Plug-ins", String(Object.keys(data.plugins).length)],
  ];
  const bar = el("div");
  if (total) bar.style.width = `${(100 * done) / total}%`;
  return el("header", null,
    el("p", { class: "eyebrow" }, "Report of a run of spiral"),
    el("h1", null, data.run),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value)))),
    total ? el("div", { class: "progress", role: "img", "aria-label": `${done} of ${total} steps done` }, bar) : null,
    el("div", { class: "headline" }, headlines()), status());
}

function headlines() {
  const found = games.map((game) => exact(game) || matched(game) || alone(game)).filter(Boolean);
  if (found.length) return found;
  const why = names.length ? "No evaluation yet: nothing here says how well it plays." : "No step is recorded yet.";
  return el("p", { class: "muted" }, why);
}

function exact(game) {
  const curve = data.series[`eval/${game}/nash_conv`];
  if (!curve || !curve.y.length) return null;
  return el("div", null,
    el("div", { class: "name" }, `NashConv, ${game}`),
    el("div", { class: "big" }, format(curve.y.at(-1))),
    el("div", { class: "from" }, curve.y.length > 1
      ? `from ${format(curve.y[0])} at step ${curve.x[0]}, to ${format(curve.y.at(-1))} at step ${curve.x.at(-1)}`
      : `at step ${curve.x[0]}`),
    el("div", { class: "muted" }, "Exact; 0 is a Nash equilibrium"), forfeits(game));
}

// NashConv is about the choice among legal moves, so it looks well on a policy that hardly ever makes one.
function forfeits(game) {
  const mass = last(`eval/${game}/illegal_mass`);
  return mass > 0.1 ? el("div", { class: "bad" }, `It leaves out that ${percent(mass, 2)} of the replies are no legal move`) : null;
}

const single = (game) => last(`play/${game}/return_p0`) !== undefined && last(`play/${game}/return_p1`) === undefined;

// What a player alone got in training, which is progress; with more players returns only tell chairs apart.
function alone(game) {
  if (!single(game)) return null;
  const curve = data.series[`play/${game}/return_p0`];
  return el("div", null,
    el("div", { class: "name" }, `Mean return, ${game}`),
    el("div", { class: "big" }, format(curve.y.at(-1))),
    el("div", { class: "from" }, `from ${format(curve.y[0])} at step ${curve.x[0]}, to ${format(curve.y.at(-1))} at step ${curve.x.at(-1)}`),
    el("div", { class: "muted" }, "Of the games it learned from; one player, no opponents"));
}

function matched(game) {
  for (const opponent of opponents(game)) {
    const start = `eval/${game}/vs/${opponent}/p`;
    const found = chairs(start, "/win").filter((p) => last(`${start}${p}/win`) !== undefined);
    if (!found.length) continue;
    const chair = (p) => el("div", null,
      el("div", { class: "big" }, format(100 * last(`${start}${p}/win`)), el("small", null, "%")),
      el("div", { class: "from" }, `as player ${p}, ${percent(last(`${start}${p}/win_low`))} to ${percent(last(`${start}${p}/win_high`))}`));
    const step = data.series[`${start}${found[0]}/win`].x.at(-1);
    return el("div", null,
      el("div", { class: "name" }, `Games won against ${opponent}, ${game}`),
      el("div", { class: "chairs" }, found.map(chair)),
      el("div", { class: "muted" }, `At step ${step}, with its interval`));
  }
  return null;
}

function status() {
  const refused = data.totals["learner/refused"];
  const said = collapses();
  const voided = Math.max(data.num_faults, data.totals["play/voided"]);
  if (voided) said.push(`${count(voided, "game")} voided and replaced${causes()}`);
  if (refused) said.push(`${count(refused, "step")} refused because the loss or gradient was not finite`);
  for (const [name, number] of Object.entries(data.unreadable)) said.push(`${count(number, "unreadable entry").replace("entrys", "entries")} in ${name}`);
  const line = el("p", null, el("span", { class: said.length ? "mark bad" : "mark" }),
    said.length ? `${said.join("; ")}.` : names.length ? "No collapse was seen, no game was voided and no step refused." : "Nothing has gone wrong so far.");
  if (!data.faults.length) return el("div", { class: "status" }, line);
  const faults = data.faults.map((fault) => el("li", null,
    el("span", { class: "muted" }, `step ${fault.step}, ${fault.game}, deal ${fault.deal}, after ${count(fault.moves.length, "move")}: `), fault.reason,
    fault.moves.length ? el("div", { class: "text bare muted" }, `moves: ${fault.moves.join(" ")}`) : null));
  const title = data.num_faults > faults.length ? `The last ${faults.length} of ${data.num_faults} faults` : "The faults";
  return el("div", { class: "status" }, line, el("details", null, el("summary", null, title), el("ul", null, faults)));
}

// Whether games misbehaved, or somebody outside did not answer.
function causes() {
  const found = Object.entries(data.fault_causes).map(([cause, number]) => cause === "game" ? `${number} because the game itself misbehaved` : `${number} by ${cause}`);
  return found.length ? `: ${found.join(", ")}` : "";
}

// ---- Sections of charts. A group is [heading or null, charts]; charts without lines are dropped.

function section(id, title, lead, ...content) {
  return el("section", { id }, el("h2", null, title), lead ? el("p", { class: "lead" }, lead) : null, content);
}

function charted(id, title, lead, groups) {
  const parts = groups.map(([heading, specs]) => [heading, specs.filter((spec) => spec && spec.lines.length)]).filter(([, specs]) => specs.length);
  if (!parts.length) return null;
  return section(id, title, lead, parts.map(([heading, specs]) =>
    [heading ? el("h3", null, heading) : null, el("div", { class: "charts" }, specs.map(chart))]));
}

function truth() {
  const groups = games.map((game) => [games.length > 1 ? game : null, [...theory(game), ...opponents(game).flatMap((o) => matchCharts(game, o))]]);
  return charted("truth", "Truth", "How well the policy plays, measured apart from training.", groups);
}

function theory(game) {
  const at = `eval/${game}/`;
  return [
    { title: "NashConv", unit: "points", zero: true, lead: true,
      caption: "What the players together would gain if each alone switched to a best response. 0 is a Nash equilibrium. Training plays the live weights; the average of recent weights is what counts.",
      lines: lines(["averaged weights", `${at}nash_conv`], ["live weights", `${at}nash_conv_live`, { dash: "4 3" }]), marks: marks(game) },
    { title: "Gain by deviating", unit: "points", zero: true,
      caption: "What each player would gain by switching alone to a best response: the parts that NashConv sums.",
      lines: [...perChair(`${at}gain_p`), ...perChair(`${at}exploitability_p`)] },
    { title: "Value in self-play", unit: "points",
      caption: "What each player gets on average when the policy plays itself. At an equilibrium of a two-player zero-sum game this is the value of the game.",
      lines: perChair(`${at}value_p`) },
    { title: "Illegal mass", unit: "share of replies", zero: true, percent: true,
      caption: "Probability of replies that are no legal move, mean over the states. A table of moves says little while this is large.",
      lines: lines(["averaged weights", `${at}illegal_mass`], ["live weights", `${at}illegal_mass_live`, { dash: "4 3" }]) },
  ];
}

function matchCharts(game, opponent) {
  const at = `eval/${game}/vs/${opponent}/p`;
  const won = perChair(at, "/win").map((line, i) => {
    const p = chairs(at, "/win")[i];
    return { ...line, low: take(`${at}${p}/win_low`), high: take(`${at}${p}/win_high`) };
  });
  const draws = chairs(at, "/draw").some((p) => ever(`${at}${p}/draw`));
  return [
    { title: `Won against ${opponent}`, unit: "share of games", zero: true, percent: true, lines: won,
      caption: "By the chair the policy sits in. The band is the interval of the measurement: two curves whose bands overlap may be equal." },
    { title: `Return against ${opponent}`, unit: "points a game", lines: perChair(at, "/return"),
      caption: "Mean return by the chair the policy sits in. Winning often and winning much are not the same." },
    draws ? { title: `Drawn against ${opponent}`, unit: "share of games", zero: true, percent: true, lines: perChair(at, "/draw"),
      caption: "The games that are neither won nor drawn were lost." } : null,
  ];
}

function play() {
  for (const [name] of matches(/^play\/voided: .+$/)) take(name); // written only where it is not 0; the header has the sums
  const several = games.length > 1;
  const each = (what, whole) => several ? lines(...games.map((game) => [game, `play/${game}/${what}`])) : lines(["all games", whole]);
  const returns = games.map((game) => ({ title: several ? `Returns, ${game}` : "Returns", unit: "points a game",
    lines: perChair(`play/${game}/return_p`),
    caption: single(game) ? "Mean return in the games that were trained on."
      : "Mean return of each player in the games that were trained on. In self-play this tells chairs apart, not progress." }));
  const common = [
    { title: "Illegal endings", unit: "share of games", zero: true, percent: true, lines: each("illegal_rate", "play/illegal_rate"),
      caption: "Games that ended because a player could not produce a legal move." },
    { title: "Turns", unit: "a game", zero: true, lines: each("turns", "play/turns_per_game"),
      caption: "Mean number of decisions in a game, all players together." },
    { title: "Reply length", unit: "tokens", zero: true, lines: lines(["all games", "play/reply_tokens"]),
      caption: "Mean number of tokens in a reply, the one that ends it included." },
    ever("play/cut_off_rate") ? { title: "Replies cut off", unit: "share of replies", zero: true, percent: true,
      lines: lines(["cut off", "play/cut_off_rate"]), caption: "Replies that ran out of tokens before they ended." } : null,
    several ? { title: "Games played", unit: "a step", zero: true, lines: lines(...games.map((game) => [game, `play/${game}/games`])),
      caption: "Finished games of each kind that a step trained on." } : null,
    ever("play/voided") ? { title: "Voided games", unit: "a step", zero: true, lines: lines(["voided", "play/voided"]),
      caption: "Games thrown away and replaced: the game itself misbehaved, or somebody outside did not answer." } : null,
  ];
  return charted("play", "Play", "The games the policy learned from. Where a curve is drawn twice, the thin line is the steps and the thick one their mean.",
    several ? [[null, common], ["By game", returns]] : [[null, [...returns, ...common]]]);
}

function learner() {
  // A curve that never leaves 0 (no clip, no reference) belongs to a feature that is off: it stays among the others.
  const one = (title, unit, name, caption, more) => ever(name) ? { title, unit, caption, lines: lines([title, name]), ...more } : null;
  return charted("learner", "Learner", "What the updates did to the weights.", [[null, [
    one("Entropy", "nats a reply", "learner/entropy", "How undecided the policy is. A fast fall to 0 means it stopped exploring.", { zero: true }),
    one("Entropy per token", "nats", "learner/entropy_per_token", "The same, divided by the number of tokens in the reply.", { zero: true }),
    one("KL to the reference", "nats a reply", "learner/kl", "Distance from the slowly moving reference that keeps self-play from going in circles; it jumps when the reference moves.", { zero: true }),
    one("Gradient norm", null, "learner/grad_norm", "Before it is scaled down to the largest norm allowed.", { zero: true }),
    one("Learning rate", null, "learner/lr", "As the schedule sets it.", { zero: true }),
    one("Ratio gap", "nats", "learner/ratio_gap", "Largest difference between a token's log-probability when sampled and when trained on, before the update. Anything but rounding is a fault.", { zero: true }),
    one("Clipped", "share of tokens", "learner/clipped", "Tokens whose probability ratio the clip cut off.", { zero: true, percent: true }),
    { title: "Objective", unit: "a game", caption: "What the update maximises, and its policy-gradient part alone. Its height means little: the advantages are taken anew each step.",
      lines: lines(["objective", "learner/objective"], ["surrogate", "learner/surrogate", { dash: "4 3" }]) },
    one("Advantage size", "points", "advantage/mean_abs", "Mean distance of the advantages from 0: how much there was to learn from a step.", { zero: true }),
    one("Advantages of zero", "share of turns", "advantage/zero_share", "Turns that taught nothing.", { zero: true, percent: true }),
    { title: "Tokens", unit: "a step", zero: true, caption: "Reply tokens trained on, and tokens that went through the model for it once shared ones are merged.",
      lines: lines(["trained", "learner/reply_tokens"], ["computed", "learner/computed_tokens"]) },
  ]]]);
}

function speed() {
  return charted("speed", "Speed", null, [[null, [
    { title: "Time", unit: "seconds a step", zero: true, caption: "Where a step's time goes. The whole step holds its evaluation too, if it has one.",
      lines: lines(["step", "time/step_s"], ["playing", "time/rollout_s"], ["learning", "time/learner_s"]) },
    { title: "Evaluation", unit: "seconds", zero: true, caption: "Time of each evaluation.", lines: lines(["evaluation", "time/eval_s"]) },
    { title: "Games", unit: "a second", zero: true, caption: "Finished games for each second of the whole step, evaluation included.", lines: lines(["games", "speed/games_per_s"]) },
    { title: "Tokens", unit: "a second", zero: true, caption: "Tokens sampled for each second of playing, and trained on, prompts included, for each second of learning.",
      lines: lines(["sampled", "speed/sampled_tokens_per_s"], ["trained", "speed/trained_tokens_per_s"]) },
  ]]]);
}

function others() {
  const rest = names.filter((name) => !shown.has(name)).sort();
  if (!rest.length) return null;
  const charts = rest.map((name) => chart({ title: name, lines: [{ label: name, series: data.series[name] }] }));
  return section("others", "All other metrics", null,
    el("details", null, el("summary", null, `${count(rest.length, "curve")} by the name in metrics.jsonl`), el("div", { class: "charts" }, charts)));
}

// ---- Policy tables

function policies() {
  const found = Object.entries(data.policy).filter(([, policy]) => policy.rows.length);
  if (!found.length) return null;
  return section("policy", "Policy", "What the policy does in each state it can see, as last evaluated. A stronger colour is likelier.",
    found.map(([game, policy]) => [
      el("h3", null, game, el("span", { class: "muted" }, policy.step === null ? "" : ` at step ${policy.step}`)),
      el("div", { class: "table", tabindex: 0, role: "group", "aria-label": `Policy table of ${game}` }, table(policy)),
      policy.num_rows > policy.rows.length ? el("p", { class: "muted" }, `The first ${policy.rows.length} of ${policy.num_rows} states.`) : null,
    ]));
}

function table(policy) {
  const moves = [...new Set(policy.rows.flatMap(([, chances]) => chances.map(([move]) => move)))].sort();
  const masses = policy.rows.some((row) => row[2] !== null);
  // More columns than fit a screen say less than each state's likeliest moves.
  const wide = moves.length > 8;
  const cells = (chances) => wide
    ? [el("td", { class: "wide" }, chances.slice(0, 6).map(([move, p]) => heated("span", p, `${move} ${format(p, 2)}`)))]
    : moves.map((move) => {
      const chance = chances.find(([name]) => name === move);
      return chance ? el("td", { class: "heat" }, heated("div", chance[1], chance[1].toFixed(2)))
        : el("td", { class: "none" }, el("div", { "aria-label": "not a move here" }, "·"));
    });
  const head = [el("th", null, "state"), ...(wide ? [el("th", null, "likeliest moves")] : moves.map((move) => el("th", null, move))), masses ? el("th", null, "illegal") : null];
  const rows = policy.rows.map(([state, chances, mass]) => el("tr", null,
    el("td", { class: "state" }, state), cells(chances),
    masses ? el("td", { class: mass > 0.02 ? "none some" : "none" }, el("div", null, mass === null ? "" : percent(mass, 2))) : null));
  return el("table", null, el("thead", null, el("tr", null, head)), el("tbody", null, rows));
}

function heated(tag, chance, text) {
  const node = el(tag, null, text);
  node.style.setProperty("--p", Math.max(0, Math.min(1, chance)));
  return node;
}

// ---- Replay

function replay() {
  if (!data.episodes.length) return null;
  const viewer = el("div", { "aria-live": "off" }), list = el("div", { class: "list" });
  const total = data.num_episodes === null ? "of very many" : `of ${data.num_episodes}`;
  const lead = data.num_episodes === data.episodes.length ? "Every game that was kept, the newest first."
    : `${data.episodes.length} ${total} games that were kept, spread over the run, the newest first; rare endings are over-represented on purpose.`;
  const unique = (field) => [...new Set(data.episodes.map((episode) => episode[field]))].sort();
  const choice = (label, values) => el("label", null, label, el("select", { on: { change: fill } },
    el("option", { value: "" }, "all"), values.map((value, i) => el("option", { value: i + 1 }, value))));
  const [byGame, byEnding] = [unique("game"), unique("ending")];
  const number = (label, hint) => el("label", null, label, el("input", { type: "number", min: 0, placeholder: hint, on: { input: fill } }));
  const filters = [choice("Game", byGame), choice("Ending", byEnding), number("From step", "first"), number("To step", "last")];
  const [game, ending, from, to] = filters.map((label) => label.lastChild);
  let found = [], current = null;

  function fill() {
    found = data.episodes.filter((episode) =>
      (!game.value || episode.game === byGame[game.value - 1]) && (!ending.value || episode.ending === byEnding[ending.value - 1])
      && (from.value === "" || episode.step >= Number(from.value)) && (to.value === "" || episode.step <= Number(to.value))).reverse();
    list.replaceChildren(...found.map((episode) => item(episode, () => open(episode))));
    if (!found.length) list.append(el("p", { class: "muted" }, "No kept game is like that; widen the filters."));
    open(found.includes(current) ? current : found[0] || null);
  }
  function open(episode) {
    current = episode;
    found.forEach((one, i) => list.children[i].setAttribute("aria-current", String(one === episode)));
    const chosen = list.children[found.indexOf(episode)];
    // Not scrollIntoView, which would move the page as well.
    if (chosen && (chosen.offsetTop < list.scrollTop || chosen.offsetTop + chosen.offsetHeight > list.scrollTop + list.clientHeight)) list.scrollTop = chosen.offsetTop - 60;
    viewer.replaceChildren(...(episode ? watch(episode) : []));
  }
  fill();
  return section("replay", "Replay", lead, el("div", { class: "replay" }, el("div", null, el("div", { class: "filters" }, filters), list), viewer));
}

const ended = (episode) => episode.ending === "illegal" ? "illegal move" : episode.ending;
const player = (number) => (number === null ? "player unknown" : `player ${number}`);

function item(episode, open) {
  return el("button", { type: "button", on: { click: open } },
    el("span", { class: "num" }, `step ${format(episode.step, 9)}`, games.length > 1 ? ` · ${episode.game}` : ""),
    el("span", { class: "score" }, episode.returns.map((value) => signed(value)).join(" / ")),
    el("span", { class: "who" }, episode.policies.join(" – ")),
    el("span", { class: episode.ending === "illegal" ? "bad" : "muted" }, episode.ending === "finished" ? count(episode.num_turns, "turn") : ended(episode)));
}

function watch(episode) {
  const turns = episode.turns.map((turn) => turnCard(turn, episode));
  const end = result(episode);
  const where = el("span", { class: "where num" });
  const button = (label, act) => el("button", { type: "button", on: { click: act } }, label);
  let upTo = turns.length;
  const show = (next) => {
    upTo = Math.max(1, Math.min(turns.length, next));
    turns.forEach((turn, i) => { turn.hidden = i >= upTo; });
    end.hidden = upTo < turns.length;
    where.textContent = turns.length ? `turn ${episode.turns[upTo - 1].number + 1} of ${episode.num_turns}` : "no turns";
    start.disabled = back.disabled = upTo <= 1;
    next1.disabled = whole.disabled = upTo >= turns.length;
  };
  const start = button("Start", () => show(1)), back = button("Back", () => show(upTo - 1));
  const next1 = button("Next", () => show(upTo + 1)), whole = button("Whole game", () => show(turns.length));
  show(turns.length);
  return [
    el("h4", null, `${episode.game}, step ${format(episode.step, 9)}`, el("span", { class: "unit" }, `deal ${episode.deal}`)),
    el("div", { class: "players" }, episode.policies.map((policy, p) => el("span", { class: `chip c${p % 8}` }, el("b", null, `player ${p}`), policy))),
    el("div", { class: "controls" }, start, back, next1, whole, where), ...turns, end,
  ];
}

function turnCard(turn, episode) {
  const policy = episode.policies[turn.player];
  const said = [el("b", null, player(turn.player)), policy === undefined ? null : el("span", { class: "muted" }, policy)];
  // A long reply's probability is too small to read as one; its logarithm is not.
  if (turn.logprob !== null) said.push(el("span", { class: "num", title: `log-probability ${turn.logprob} nats over ${count(turn.num_tokens, "token")}` },
    turn.logprob > -7 ? `p = ${format(Math.exp(turn.logprob))}` : `log p = ${format(turn.logprob)}`));
  if (turn.advantage !== null) said.push(el("span", { class: "num" }, "advantage ",
    el("span", { class: turn.advantage > 0 ? "good" : turn.advantage < 0 ? "bad" : "muted" }, signed(turn.advantage))));
  if (!turn.legal) said.push(el("span", { class: "flag" }, turn.move === null ? "no move could be read" : "illegal move"));
  if (turn.finish === "length") said.push(el("span", { class: "flag" }, "cut off: out of tokens"));
  const block = (text) => text ? el("dd", { class: "text" }, text) : el("dd", { class: "muted" }, "empty");
  const part = (name, value) => [el("dt", null, name), value];
  return el("article", { class: `turn c${(turn.player || 0) % 8}${turn.legal ? "" : " illegal"}` },
    el("header", null, said),
    el("dl", { class: "says" }, part("sees", block(turn.observation)), turn.reply ? part("replies", block(turn.reply)) : turn.logprob === null ? null : part("replies", block("")),
      part("move", el("dd", { class: "text bare" }, turn.move === null ? "none" : turn.move))));
}

function result(episode) {
  const how = episode.ending === "illegal" ? `Ended by an illegal move of ${player(episode.offender)}.` : `Ended: ${episode.ending || "unknown"}.`;
  const left = episode.num_turns - episode.turns.length;
  return el("div", { class: "result" }, el("p", null, how, left ? ` ${count(left, "turn")} in the middle are left out here.` : ""),
    el("div", { class: "players" }, episode.returns.map((value, p) => el("span", { class: `chip c${p % 8}` }, el("b", null, `player ${p}`),
      el("span", { class: "num" }, signed(value))))));
}

// ---- The rest

function config() {
  if (!data.config) return null;
  return section("config", "Config", null,
    el("details", null, el("summary", null, "config.yaml, everything merged"), el("pre", { class: "text config" }, data.config)));
}

function plugins() {
  const rows = Object.entries(data.plugins);
  if (!rows.length) return null;
  return section("plugins", "Plug-ins", "The distributions that took part, by version.",
    el("table", { class: "plain" }, el("tbody", null, rows.map(([name, version]) => el("tr", null, el("td", null, name), el("td", null, version))))));
}

const sections = [truth(), policies(), health(), pool(), play(), learner(), speed(), replay(), config(), plugins()];
sections.splice(8, 0, others()); // built last, placed before the config: it shows what the others left
const present = sections.filter(Boolean);
document.getElementById("page").append(
  header(),
  present.length ? el("nav", { "aria-label": "Sections" }, present.map((one) => el("a", { href: `#${one.id}` }, one.querySelector("h2").textContent))) : "",
  ...present,
  el("footer", null, "Drawn from the files in this run's directory; it needs no network."));
