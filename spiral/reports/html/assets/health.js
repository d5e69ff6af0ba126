
// The sections on health and on the pool: indicators with the events that rules named on them, and ratings. They draw
// with charts.js and look series up as curves.js does; every text goes in as a text node.

const DONE = new Map([["note", "noted, and training went on"], ["stop", "the run was stopped"],
  ["rollback", "the run went back to its last healthy checkpoint, with wider opponents"]]);
const severe = (event) => event.severity === "collapse";

// The events of a game and of the whole run, numbered as in the list of events; without a game, all of them.
function marks(game) {
  return data.events.map((event, i) => ({ step: event.step, since: event.since, number: i + 1, severe: severe(event), label: event.sentence, game: event.game }))
    .filter((mark) => game === undefined || mark.game === game || mark.game === "");
}

// For the line under the headline.
function collapses() {
  const found = data.events.filter(severe);
  const kinds = [...new Set(found.map((event) => `${event.kind}${event.game ? ` in ${event.game}` : ""}`))];
  return kinds.length ? [`Collapsed: ${kinds.slice(0, 3).join(", ")}${kinds.length > 3 ? ` and ${kinds.length - 3} more` : ""}`] : [];
}

function health() {
  const gradient = ever("learner/grad_norm") ? { title: "Gradient norm", zero: true, lines: lines(["gradient norm", "learner/grad_norm"]), small: true, marks: marks(),
    caption: "Before it is scaled down to the largest norm allowed." } : null;
  const groups = games.map((game) => [several ? game.name : null, signs(game).filter((spec) => spec.lines.length).map((spec) => ({ ...spec, small: true, marks: marks(game.name) }))]);
  const present = groups.filter(([, specs]) => specs.length);
  if (!present.length && !data.events.length) return null;
  if (gradient) present.push(present.length === 1 && !several ? [null, [...present.pop()[1], gradient]] : [several ? "All games" : null, [gradient]]);
  return section("health", "Health", "Whether self-play is alive, told by the games it learns from. A curve here is a reason to look, not a proof: a solved game may be silent too.",
    events(), present.map(([heading, specs]) => [heading ? el("h3", null, heading) : null, el("div", { class: "charts small" }, specs.map(chart))]));
}

function signs(game) {
  const group = game.health, whole = group.whole;
  const edge = (label, quantity, more) => lines([label, whole[quantity], { ...more, low: take(whole[`${quantity}_low`]), high: take(whole[`${quantity}_high`]) }]);
  for (const kind of ["old", "new", "bots", "others"]) take(whole[`games_${kind}`]);
  const offenders = byPlayer(group, "illegal").map((line) => ({ ...line, label: `illegal, ${line.label}`, colour: line.colour + 1 }));
  const cut = ever(whole.cut_off) ? lines(["cut off", whole.cut_off, { colour: 7, dash: "4 3" }]) : [];
  const unreadable = ever(whole.unreadable) ? lines(["without a move", whole.unreadable, { colour: 6, dash: "2 3" }]) : [];
  const cutGames = ever(whole.cut_games) ? lines(["cut at max_turns", whole.cut_games, { colour: 7, dash: "4 3" }]) : [];
  [whole.cut_off, whole.unreadable, whole.cut_games].forEach(take);
  return [
    { title: "First-player edge", unit: "points a game", zero: true, lines: [...edge("all games", "edge", { colour: 0 }), ...edge("against itself", "edge_mirror", { colour: 1, dash: "4 3" })],
      caption: "How much more player 0 gets than the others, with its 95% interval." },
    { title: "Wins by player", unit: "share of games not drawn", zero: true, percent: true, lines: byPlayer(group, "win"),
      caption: "Near 100% for one player: either the rules favour it, or the others stopped resisting." },
    { title: "Draws and illegal moves", unit: "share of games", zero: true, percent: true, lines: [...lines(["drawn", whole.draw_rate, { colour: 0 }]), ...cutGames, ...offenders],
      caption: "Illegal: of the games in which the learner was that player, those that its illegal move ended." },
    { title: "Entropy", unit: "nats a turn", zero: true, lines: byPlayer(group, "entropy"),
      caption: "How undecided each player is. At 0 it always does the same, and finds nothing new." },
    { title: "Reply length", unit: "tokens", zero: true, lines: byPlayer(group, "reply_tokens"), caption: "Mean length of the learner's replies as each player." },
    { title: "Turns that teach nothing", unit: "share", zero: true, percent: true, lines: [...lines(["no advantage", whole.zero_share, { colour: 0 }]), ...cut, ...unreadable],
      caption: "Turns whose advantage is as good as 0; and replies that ran out of tokens or hold no move, if any did." },
    { title: "Score by opponent", unit: "draws count half", percent: true,
      lines: lines(["older snapshots", whole.score_old, { colour: 0 }], ["newer snapshots", whole.score_new, { colour: 1 }], ["bots", whole.score_bots, { colour: 2 }], ["others", whole.score_others, { colour: 3 }]),
      caption: "The learner against its own past and the rest of the pool. Below 50% against older snapshots, something was forgotten." },
    { title: "Openings", unit: "number", zero: true, lines: lines(["first moves", whole.first_moves], ["openings, effective", whole.openings]),
      caption: "Different first moves of a step, and how many openings of two moves they amount to." },
  ];
}

function events() {
  if (!data.events.length) return null;
  const items = data.events.map((event, i) => el("li", { class: severe(event) ? "severe" : null },
    el("b", null, String(i + 1)),
    el("div", null, el("div", { class: "what" }, el("span", { class: severe(event) ? "flag" : "flag mild" }, event.severity || "event"), event.kind, el("span", { class: "muted num" }, `step ${format(event.step, 9)}`)),
      el("p", null, event.sentence), event.action ? el("p", { class: "muted" }, `Done: ${DONE.get(event.action) || event.action}`) : null)));
  const left = data.num_events - items.length;
  return [el("ol", { class: "events" }, items), left ? el("p", { class: "muted" }, `The last ${items.length} of ${data.num_events}.`) : null];
}

// ---- Ratings

function pool() {
  const found = Object.entries(data.pool).filter(([, table]) => table.rows.length);
  if (!found.length) return null;
  return section("pool", "Pool", "The policies that played with the learner, and their ratings with two deviations to each side. Ratings whose lines overlap may be equal.",
    found.map(([game, table]) => [
      several || found.length > 1 ? el("h3", null, game) : null,
      el("div", { class: "table", tabindex: 0, role: "group", "aria-label": `Ratings in ${game}` }, ratings(table.rows)),
      history(games.find((one) => one.name === game)),
      table.num_rows > table.rows.length ? el("p", { class: "muted" }, `The best of ${table.num_rows} that were rated.`) : null,
    ]));
}

function history(game) {
  const found = lines(["mu", game.pool.whole.rating], ["mu - 3 sigma", game.pool.whole.rating_low, { dash: "4 3" }]);
  return found.length ? el("div", { class: "charts" }, chart({ title: "The learner's rating", unit: "points", lines: found,
    caption: "Among the policies it played with. It rises as the learner outgrows them; newer snapshots follow it." })) : null;
}

function ratings(rows) {
  const spread = (row) => 2 * Math.abs(row.sigma || 0);
  const low = Math.min(...rows.map((row) => row.mu - spread(row))), high = Math.max(...rows.map((row) => row.mu + spread(row)));
  const x = (value) => (high > low ? 6 + (228 * (value - low)) / (high - low) : 120).toFixed(1);
  const bar = (row) => svg("svg", { viewBox: "0 0 240 14", width: 240, height: 14, class: row.policy === "learner" ? "c1" : "c0", role: "img",
    "aria-label": `${format(row.mu)}, plus or minus ${format(spread(row))}` },
    svg("path", { d: `M${x(row.mu - spread(row))} 7H${x(row.mu + spread(row))}`, class: "line" }), svg("circle", { cx: x(row.mu), cy: 7, r: 3.5, class: "dot" }));
  const head = ["policy", "rating", "learner's score", "games", ""].map((name) => el("th", null, name));
  const body = rows.map((row) => el("tr", { class: row.policy === "learner" ? "self" : null },
    el("td", null, row.policy), el("td", { class: "num" }, format(row.mu), row.sigma === null ? "" : ` ± ${format(spread(row), 2)}`),
    el("td", { class: "num" }, row.score === null ? "" : percent(row.score, 2)), el("td", { class: "num" }, row.games === null ? "" : format(Math.round(row.games))), el("td", null, bar(row))));
  return el("table", { class: "plain ratings" }, el("thead", null, el("tr", null, head)), el("tbody", null, body));
}
