
// The run's data, and the sections of charts drawn from it. data.games says which metric holds which quantity of which
// game, player and opponent; a name of a metric that holds a game or an opponent is never built or taken apart here.

const data = JSON.parse(document.getElementById("data").textContent);
const names = Object.keys(data.series);
const games = data.games; // [{name, exact, play, health, pool, matches}]
const several = games.length > 1;
const shown = new Set();

const known = (name) => name !== undefined && Object.hasOwn(data.series, name);

// The series of a name, marked as shown: a series that no section takes ends up under "All other metrics".
function take(name) {
  if (!known(name)) return null;
  shown.add(name);
  return data.series[name];
}

// [{label, series}] for those of [label, name] that the run has.
const lines = (...pairs) => pairs.map(([label, name, more]) => ({ label, series: take(name), ...more })).filter((line) => line.series);

// Of a group of the index: the rows {player, name} of a quantity, by player, and a line for each of them.
const rows = (group, quantity) => group.by_player[quantity] || [];
const byPlayer = (group, quantity) => lines(...rows(group, quantity).map(({ player, name }) => [`player ${player}`, name, { colour: player }]));
const ofPlayer = (group, quantity, player) => rows(group, quantity).find((row) => row.player === player)?.name;

const last = (name) => (known(name) ? data.series[name].y.at(-1) : undefined);
const ever = (name) => known(name) && data.series[name].y.some((value) => value !== 0);

// A game for one player, as far as its returns tell.
function single(game) {
  const found = rows(game.play, "return").filter(({ name }) => last(name) !== undefined);
  return found.length === 1 && found[0].player === 0;
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function section(id, title, lead, ...content) {
  return el("section", { id }, el("h2", null, title), lead ? el("p", { class: "lead" }, lead) : null, content);
}

// A group is [heading or null, charts]; charts without lines are dropped.
function charted(id, title, lead, groups) {
  const parts = groups.map(([heading, specs]) => [heading, specs.filter((spec) => spec && spec.lines.length)]).filter(([, specs]) => specs.length);
  if (!parts.length) return null;
  return section(id, title, lead, parts.map(([heading, specs]) =>
    [heading ? el("h3", null, heading) : null, el("div", { class: "charts" }, specs.map(chart))]));
}

function truth() {
  const groups = games.map((game) => [several ? game.name : null, [...theory(game), ...game.matches.flatMap(matchCharts)]]);
  return charted("truth", "Truth", "How well the policy plays, measured apart from training.", groups);
}

function theory(game) {
  const whole = game.exact.whole;
  const band = { low: take(whole.return_low), high: take(whole.return_high) };
  return [
    { title: "Return", unit: "points a game", lead: true, lines: lines(["averaged weights", whole.return, band]),
      caption: "Mean return in matches of their own, of a game for one player. The band is the interval of the measurement." },
    { title: "NashConv", unit: "points", zero: true, lead: true,
      caption: "What the players together would gain if each alone switched to a best response. 0 is a Nash equilibrium. Training plays the live weights; the average of recent weights is what counts.",
      lines: lines(["averaged weights", whole.nash_conv], ["live weights", whole.nash_conv_live, { dash: "4 3" }]), marks: marks(game.name) },
    { title: "Gain by deviating", unit: "points", zero: true,
      caption: "What each player would gain by switching alone to a best response: the parts that NashConv sums.",
      lines: byPlayer(game.exact, "gain") },
    { title: "Value in self-play", unit: "points",
      caption: "What each player gets on average when the policy plays itself. At an equilibrium of a two-player zero-sum game this is the value of the game.",
      lines: byPlayer(game.exact, "value") },
    { title: "Held-out loss", unit: "nats a token", zero: true, lines: lines(["loss", whole.held_out_loss]),
      caption: "Negative log-likelihood of other policies' replies, in games that were never trained on. Where replies are drawn at random it cannot reach 0." },
    { title: "Held-out moves", unit: "share of moves", zero: true, percent: true, lines: lines(["the same move", whole.held_out_accuracy]),
      caption: "Moves of those games that the policy would make too, at temperature 0." },
    { title: "Illegal mass", unit: "share of replies", zero: true, percent: true,
      caption: "Probability of replies that are no legal move, mean over the states. A table of moves says little while this is large.",
      lines: lines(["averaged weights", whole.illegal_mass], ["live weights", whole.illegal_mass_live, { dash: "4 3" }]) },
  ];
}

function matchCharts(match) {
  const won = rows(match, "win").flatMap(({ player, name }) => lines([`player ${player}`, name,
    { colour: player, low: take(ofPlayer(match, "win_low", player)), high: take(ofPlayer(match, "win_high", player)) }]));
  return [
    { title: `Won against ${match.opponent}`, unit: "share of games", zero: true, percent: true, lines: won,
      caption: "A curve for each player that the policy plays as. The band is the interval of the measurement: two curves whose bands overlap may be equal." },
    { title: `Return against ${match.opponent}`, unit: "points a game", lines: byPlayer(match, "return"),
      caption: "Mean return as each player. Winning often and winning much are not the same." },
    rows(match, "draw").some(({ name }) => ever(name)) ? { title: `Drawn against ${match.opponent}`, unit: "share of games", zero: true, percent: true,
      lines: byPlayer(match, "draw"), caption: "The games that are neither won nor drawn were lost." } : null,
  ];
}

function tasks() {
  const charts = data.tasks.map(({ name, metrics }) => ({ title: name, unit: "share right", percent: true, lead: data.tasks.length === 1,
    lines: lines(["right", metrics.accuracy, { low: take(metrics.accuracy_low), high: take(metrics.accuracy_high) }]),
    caption: "Share of replies to the benchmark's questions that were right. The band is the interval of the measurement." }));
  const together = (quantity) => lines(...data.tasks.map(({ name, metrics }) => [name, metrics[quantity]]));
  return charted("tasks", "Benchmarks", "Questions that the policy is asked and does not train on.", [[null, [...charts,
    { title: "Reply length in benchmarks", unit: "tokens", zero: true, lines: together("tokens"), caption: "Mean number of tokens in a reply to a question." },
    { title: "Cut replies in benchmarks", unit: "share of replies", zero: true, percent: true, lines: together("cut_replies"), caption: "Replies that ran out of tokens." },
    { title: "Unreadable replies in benchmarks", unit: "share of replies", zero: true, percent: true, lines: together("unreadable"), caption: "Replies without an answer in the form that was asked for." }]]]);
}

function play() {
  data.voided_metrics.forEach(take); // by cause, written only where it is not 0; the header has the sums
  const each = (quantity, whole) => several ? lines(...games.map((game) => [game.name, game.play.whole[quantity]])) : lines(["all games", whole]);
  const returns = games.map((game) => ({ title: several ? `Returns, ${game.name}` : "Returns", unit: "points a game",
    lines: byPlayer(game.play, "return"),
    caption: single(game) ? "Mean return in the games that were trained on."
      : "Mean return of each player in the games that were trained on. In self-play this tells players apart, not progress." }));
  const common = [
    { title: "Illegal endings", unit: "share of games", zero: true, percent: true, lines: each("illegal_rate", "play/illegal_rate"),
      caption: "Games that ended because a player could not produce a legal move." },
    ever("play/cut_games") ? { title: "Cut games", unit: "share of games", zero: true, percent: true, lines: lines(...games.map((game) => [game.name, game.play.whole.cut_rate])),
      caption: "Games that were not over after rollout.max_turns turns, and count as rollout.cut says." } : null,
    { title: "Turns", unit: "a game", zero: true, lines: each("turns", "play/turns_per_game"),
      caption: "Mean number of decisions in a game, all players together." },
    { title: "Reply length", unit: "tokens", zero: true, lines: lines(["all games", "play/reply_tokens"]),
      caption: "Mean number of tokens in a reply, the one that ends it included." },
    ever("play/cut_off_rate") ? { title: "Replies cut off", unit: "share of replies", zero: true, percent: true,
      lines: lines(["cut off", "play/cut_off_rate"]), caption: "Replies that ran out of tokens before they ended." } : null,
    ever("play/forced_rate") ? { title: "Thoughts closed", unit: "share of replies", zero: true, percent: true,
      lines: lines(["closed by their limit", "play/forced_rate"]), caption: "Replies in which the prompt's limit closed a thought, and the policy then answered." } : null,
    several ? { title: "Games played", unit: "a step", zero: true, lines: each("games"),
      caption: "Finished games of each kind that a step trained on." } : null,
    ever("play/voided") ? { title: "Voided games", unit: "a step", zero: true, lines: lines(["voided", "play/voided"]),
      caption: "Games thrown away and replaced: the game itself misbehaved, or a remote player did not answer." } : null,
  ];
  return charted("play", "Play", "The games the policy learned from. Where a curve is drawn twice, the thin line is the steps and the thick one their mean.",
    several ? [[null, common], ["By game", returns]] : [[null, [...returns, ...common]]]);
}

function learner() {
  // One group of charts a policy in training.
  const groups = data.learners.map(({ name, prefix }) => [data.learners.length > 1 ? name || "The main policy" : null, updates(prefix)]);
  return charted("learner", "Learner", "What the updates did to the weights.", groups);
}

// Of the policy whose metrics have the prefix.
function updates(prefix) {
  const its = (name) => prefix + name;
  // A curve that never leaves 0 (no clip, no reference) belongs to a feature that is off: it stays among the others.
  const one = (title, unit, name, caption, more) => ever(its(name)) ? { title, unit, caption, lines: lines([title, its(name)]), ...more } : null;
  return [
    one("Negative log-likelihood", "nats a token", "learner/nll", "Of the replies that were trained on, before the update: the loss of supervised training.", { zero: true }),
    one("Entropy", "nats a reply", "learner/entropy", "How undecided the policy is. A fast fall to 0 means it stopped exploring.", { zero: true }),
    one("Entropy per token", "nats", "learner/entropy_per_token", "The same, divided by the number of tokens in the reply.", { zero: true }),
    one("KL to the reference", "nats a reply", "learner/kl", "Distance from the slowly moving reference that keeps self-play from going in circles; it jumps when the reference moves.", { zero: true }),
    one("Gradient norm", null, "learner/grad_norm", "Before it is scaled down to the largest norm allowed.", { zero: true }),
    one("Learning rate", null, "learner/lr", "As the schedule sets it.", { zero: true }),
    one("Weights that moved", "share of weights", "learner/moved", "Of the weights with a gradient, those that the step changed: near 1 in float32. In bf16 a small update is rounded away for most, and reaches all in the mean over many steps.", { zero: true, percent: true }),
    one("Ratio gap", "nats", "learner/ratio_gap", "Largest difference between a token's log-probability when sampled and when trained on, before the update. Anything but rounding is a fault in float32; in bf16 single tokens are whole nats off.", { zero: true }),
    one("Learner against engine", "nats a token", "learner/mismatch_kl", "KL(engine || learner), by the probabilities of what was sampled, before the update.", { zero: true }),
    ever(its("learner/ratio_beyond")) || ever(its("learner/truncated")) ? { title: "Mismatched tokens", unit: "share of tokens", zero: true, percent: true, caption: "Tokens whose two probabilities differ by more than the tolerance, and those whose importance weight was cut off.",
      lines: lines(["beyond the tolerance", its("learner/ratio_beyond")], ["truncated", its("learner/truncated")]) } : null,
    one("Clipped", "share of tokens", "learner/clipped", "Tokens whose probability ratio the clip cut off.", { zero: true, percent: true }),
    { title: "Objective", unit: "a game", caption: "What the update maximises, and its policy-gradient part alone. Its height means little: the advantages are taken anew each step.",
      lines: lines(["objective", its("learner/objective")], ["surrogate", its("learner/surrogate"), { dash: "4 3" }]) },
    one("Advantage size", "points", "advantage/mean_abs", "Mean distance of the advantages from 0: how much there was to learn from a step.", { zero: true }),
    one("Advantages of zero", "share of turns", "advantage/zero_share", "Turns that taught nothing.", { zero: true, percent: true }),
    { title: "Tokens", unit: "a step", zero: true, caption: "Reply tokens trained on, and tokens that went through the model for it once shared ones are merged.",
      lines: lines(["trained", its("learner/reply_tokens")], ["computed", its("learner/computed_tokens")]) },
  ];
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
