
// Lays out a tournament from the record embedded above; every name in it is untrusted and goes in as a text node.

const data = JSON.parse(document.getElementById("data").textContent);
const players = data.players;
const rated = (n) => typeof players[n].elo === "number";
// What the game is played for: how much is won where wins differ in size, how often else.
const graded = data.graded, aim = graded ? "worth" : "elo", means = graded ? "margin" : "score";
const order = players.map((_, n) => n).sort((a, b) => rated(b) - rated(a) || (rated(a) ? players[b][aim] - players[a][aim] : 0) || a - b);
const place = new Map(order.map((n, i) => [n, i + 1]));
const cells = new Map(data.cells.map((cell) => [`${cell.row} ${cell.column}`, cell]));

const score = (value) => (typeof value === "number" ? value.toFixed(3) : "–");
// The sign of what is shown: a value that rounds to 0 has none.
function fixed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return (Number(text) === 0 ? "" : value > 0 ? "+" : "−") + text;
}
const small = (value) => (typeof value === "number" ? (graded ? fixed(value, 2) : value.toFixed(2)) : "–");
const worth = (value) => (graded ? fixed(value, 3) : score(value));
// An end that is not known is null.
function range(low, high, show) {
  if (low === null && high === null) return "unknown";
  if (low === null) return `at most ${show(high)}`;
  return high === null ? `at least ${show(low)}` : `${show(low)} to ${show(high)}`;
}
const points = (value) => fixed(value, 0);
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const named = (n) => el("div", { class: "player" }, el("span", { class: "place" }, String(place.get(n))), el("span", null, players[n].name));

function section(id, title, lead, ...content) {
  return el("section", { id }, el("h2", null, title), lead ? el("p", { class: "lead" }, lead) : null, content);
}

function header() {
  const facts = [
    ["Players", String(players.length)],
    ["Games", String(data.games)],
    ["Schedule", data.config.schedule],
    ["Players in a game", String(data.game_players)],
    ["Seed", String(data.config.seed)],
    ["Voided", String(players.reduce((sum, p) => sum + Object.values(p.voided).reduce((a, b) => a + b, 0), 0) + data.num_voided)],
  ];
  const trouble = data.notes.length || data.num_voided;
  return el("header", null,
    el("p", { class: "eyebrow" }, "A tournament of spiral"),
    el("h1", null, data.game),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", null, el("dt", null, name), el("dd", null, value)))),
    el("div", { class: "headline" }, headline()),
    el("div", { class: "status" },
      el("p", null, el("span", { class: data.stopped || data.num_voided ? "mark bad" : "mark" }),
        data.stopped ? "Ended early; what follows is what was played by then." : "Played to its end."),
      trouble ? el("ul", null, data.notes.map((note) => el("li", null, note)), voidedGames()) : null));
}

function headline() {
  const first = order.find(rated);
  if (first === undefined) return el("p", { class: "muted" }, "No game was finished.");
  const holders = order.filter((n) => rated(n) && players[n].nash > 0.005);
  const tell = (name, big, from) => el("div", null, el("div", { class: "name" }, name), el("div", { class: "big" }, big), el("div", { class: "from" }, from));
  return [
    graded
      ? tell(`Wins most: ${players[first].name}`, worth(players[first].worth), `a game, ${range(players[first].worth_low, players[first].worth_high, small)}`)
      : tell(`Highest rating: ${players[first].name}`, points(players[first].elo), `Elo, ${range(players[first].elo_low, players[first].elo_high, points)}`),
    tell("Players in the Nash average", String(holders.length), holders.slice(0, 6).map((n) => players[n].name).join(", ")),
    tell("Cycles", String(data.num_cycles), data.num_cycles ? "wins do not order the players" : "none that the intervals show"),
  ];
}

function voidedGames() {
  return data.voided.map((game) => el("li", null, el("span", { class: "muted" }, `voided, deal ${game.deal}, after ${count(game.moves.length, "move")}: `), game.reason));
}

// ---- Cross-play

function describe(cell) {
  const byPlayer = cell.by_player.map((result, i) => `as player ${i}: score ${score(result.score)}, return ${signed(result.return)}, illegal ${percent(result.illegal)} (${count(result.games, "game")})`);
  return [`${players[cell.row].name} against ${players[cell.column].name}`,
    `score ${score(cell.score)}, 95% ${range(cell.score_low, cell.score_high, score)}`,
    `margin ${signed(cell.margin)}, 95% ${range(cell.margin_low, cell.margin_high, signed)}`,
    `mean return ${signed(cell.return)}, 95% ${range(cell.return_low, cell.return_high, signed)}`,
    `${cell.wins} won, ${cell.draws} drawn, ${cell.losses} lost of ${count(cell.games, "game")} from ${count(cell.deals, "deal")}`,
    `illegal ${percent(cell.illegal)}, cut ${percent(cell.cut)}`, ...byPlayer].join("\n");
}

const largest = Math.max(...data.cells.map((cell) => (graded ? Math.abs(cell.margin) : 0.5)), 1e-9);
const split = data.game_players > 1 && data.game_players <= 4;

function crossed(row, column) {
  if (row === column) return el("td", { class: "self" }, el("div", null, "·"));
  const cell = cells.get(`${row} ${column}`);
  if (!cell) return el("td", { class: "self" }, el("div", null, "–"));
  const byPlayer = cell.by_player.map((result) => small(graded ? result.return : result.score)).join(" | ");
  const box = el("div", { title: describe(cell) }, el("b", null, worth(cell[means])),
    el("small", null, range(cell[`${means}_low`], cell[`${means}_high`], small)), split ? el("small", null, byPlayer) : null);
  const beyond = graded ? cell.margin : cell.score - 0.5;
  box.style.setProperty("--far", (Math.abs(beyond) / largest).toFixed(3));
  box.style.setProperty("--side", beyond < 0 ? "var(--lose)" : "var(--win)");
  const back = cells.get(`${column} ${row}`);
  return el("td", { class: cell.beats || (back && back.beats) ? "cell sure" : "cell" }, box);
}

function cross() {
  const what = graded
    ? "Margin of the row over the column, half the difference of their mean returns a game"
    : "Score of the row against the column: 1 for a win, 1/2 for a draw";
  const byPlayer = split ? ` Last line: the ${graded ? "return" : "score"} as player 0, 1 and so on.` : "";
  const lead = `${what}. Below it the 95% interval; bold where that tells which is better.${byPlayer} Point at a cell for more.`;
  return section("cross", "Cross-play", lead,
    el("div", { class: "table" }, el("table", { class: "cross" },
      el("thead", null, el("tr", null, el("th", null), order.map((n) => el("th", { title: players[n].name, scope: "col" }, String(place.get(n)))))),
      el("tbody", null, order.map((row) => el("tr", null, el("td", null, named(row)), order.map((column) => crossed(row, column))))))),
    el("div", { class: "scale" }, graded ? worth(-largest) : "0", el("i"), graded ? worth(largest) : "1"));
}

// ---- Ratings and Nash average: a point or bar with its interval on one scale for all.

const WIDTH = matchMedia("(max-width: 760px)").matches ? 110 : 260, TALL = 22;
function plotted(at, low, high, from, to, bar) {
  const x = (value) => 6 + ((value - from) / (to - from || 1)) * (WIDTH - 12);
  const [a, b] = [low === null ? 0 : x(low), high === null ? WIDTH : x(high)];
  const mid = TALL / 2, zero = x(Math.min(Math.max(0, from), to));
  const cap = (end, open) => (open ? null : svg("path", { class: "whisker", d: `M${end} ${mid - 4}V${mid + 4}` }));
  return svg("svg", { width: WIDTH, height: TALL, viewBox: `0 0 ${WIDTH} ${TALL}`, "aria-hidden": true },
    svg("line", { class: "zero", x1: zero, x2: zero, y1: 0, y2: TALL }),
    bar ? svg("rect", { class: "bar", x: zero, y: 4, width: Math.max(0, x(at) - zero), height: TALL - 8, rx: 2 }) : null,
    svg("path", { class: "whisker", d: `M${a.toFixed(1)} ${mid}H${b.toFixed(1)}` }), cap(a, low === null), cap(b, high === null),
    bar ? null : svg("circle", { class: "point", cx: x(at), cy: mid, r: 4.5 }));
}

function table(kind, heads, rows) {
  return el("div", { class: "table" }, el("table", { class: kind },
    el("thead", null, el("tr", null, heads.map(([name, style]) => el("th", { class: style || null }, name)))),
    el("tbody", null, rows.map((row) => el("tr", null, row.map((value, i) => el("td", { class: heads[i][1] || null }, value)))))));
}

const within = (value, interval) => [value, el("span", { class: "muted" }, ` (${interval})`)];
const bounds = (shown, key) => {
  const ends = shown.flatMap((n) => [players[n][key], players[n][`${key}_low`], players[n][`${key}_high`]]).filter((x) => x !== null);
  return [Math.min(...ends, 0), Math.max(...ends, 0)];
};
const line = (p, key, ends, bar) => plotted(p[key], p[`${key}_low`], p[`${key}_high`], ...ends, bar);

function ratings() {
  const shown = order.filter(rated);
  if (!shown.length) return null;
  const ends = bounds(shown, aim);
  const zero = data.config.anchor === null ? "0 is the mean" : `${data.config.anchor} has 0`;
  const first = graded ? `Worth is what a player wins a game, by least squares over the margins; ${zero}. ` : "";
  const lead = `${first}Elo is Bradley-Terry by maximum likelihood; ${zero}, 400 points are odds of 10 to 1. Intervals of 95% by bootstrap over deals; a line without an end: no game lost, or none won. The live rating is Plackett-Luce as it stood after the last game, and depends on the order of the games.`;
  const interval = (p, key, show, show_end) => within(show(p[key]), range(p[`${key}_low`], p[`${key}_high`], show_end));
  return section("ratings", "Ratings", lead,
    table("bars", [["Player"], [""], ...(graded ? [["Worth, 95%", "num"]] : []), ["Elo, 95%", "num"], ["Live mu, sigma", "num"]], shown.map((n) => {
      const p = players[n];
      return [named(n), line(p, aim, ends, false), ...(graded ? [interval(p, "worth", worth, small)] : []), interval(p, "elo", points, points), `${p.mu.toFixed(1)}, ${p.sigma.toFixed(1)}`];
    })),
    el("h3", null, "How they played"),
    table("bars", [["Player"], ["Games", "num"], ["Mean score", "num"], ["Forfeited", "num"], ["Cut", "num"], ["Voided", "num"]], order.map((n) => {
      const p = players[n];
      return [named(n), String(p.games), score(p.score), [`${(100 * p.illegal).toFixed(1)}%`, ...Object.entries(p.faults).map(([fault, times]) => `${times} ${fault}`)].join(", "), `${(100 * p.cut).toFixed(1)}%`, Object.entries(p.voided).map(([cause, times]) => `${times} ${cause}`).join(", ") || "0"];
    })));
}

function nash() {
  const shown = order.filter(rated).sort((a, b) => players[b].nash - players[a].nash);
  if (!shown.length) return null;
  return section("nash", "Nash average",
    "The mixture of players that no player beats, the one of largest entropy (Balduzzi et al. 2018). Entering a player twice does not change it. The last column is what each player gets against the mixture.",
    table("bars", [["Player"], [""], ["Weight, 95%", "num"], [graded ? "Margin against it" : "Score against it", "num"]],
      shown.map((n) => [named(n), line(players[n], "nash", [0, 1], true), within(score(players[n].nash), range(players[n].nash_low, players[n].nash_high, (x) => x.toFixed(2))), worth(players[n].against_nash)])));
}

// ---- Cycles, all pairs, how it was played

function rings() {
  const lead = "Rings of players in which each beats the next beyond the 95% interval; the strongest first, by its weakest win.";
  if (!data.cycles.length) return section("cycles", "Cycles", lead, el("p", { class: "rings" }, "None."));
  const steps = (ring) => ring.players.flatMap((n, i) => [el("b", null, players[n].name), ` beats (${small(ring.steps[i])}) `]);
  const more = data.num_cycles - data.cycles.length;
  return section("cycles", "Cycles", lead,
    el("ul", { class: "rings" }, data.cycles.map((ring) => el("li", null, steps(ring), el("b", null, players[ring.players[0]].name)))),
    more > 0 ? el("p", { class: "muted" }, `And ${more} more.`) : null);
}

function pairs() {
  if (!data.cells.length) return null;
  const heads = [["Row"], ["Column"], ["Games", "num"], ["Won", "num"], ["Drawn", "num"], ["Lost", "num"], ["Score"], ["Margin"], ["Mean return"], ["Illegal", "num"], ["Cut", "num"],
    ...data.cells[0].by_player.map((_, i) => [`As player ${i}`])];
  const sorted = [...data.cells].sort((a, b) => place.get(a.row) - place.get(b.row) || place.get(a.column) - place.get(b.column));
  const interval = (cell, key, show) => `${show(cell[key])} (${range(cell[`${key}_low`], cell[`${key}_high`], show)})`;
  const rows = sorted.map((cell) => [named(cell.row), named(cell.column), ...[cell.games, cell.wins, cell.draws, cell.losses].map(String),
    interval(cell, "score", score), interval(cell, "margin", signed), interval(cell, "return", signed), percent(cell.illegal), percent(cell.cut),
    ...cell.by_player.map((result) => `score ${score(result.score)}, return ${signed(result.return)}`)]);
  return section("pairs", "Every pair", null, el("details", null, el("summary", null, `${rows.length} rows`), table("wideplain num", heads, rows)));
}

function origin() {
  const plain = (values) => el("table", { class: "plain" }, Object.entries(values).map(([name, value]) =>
    el("tr", null, el("td", null, name), el("td", null, typeof value === "string" ? value : JSON.stringify(value)))));
  return section("origin", "How it was played", null,
    el("p", { class: "text" }, data.command),
    el("details", null, el("summary", null, "Settings, rules of play and versions"), plain(data.config), plain(data.rules), plain(data.versions)));
}

const parts = [cross(), ratings(), nash(), rings(), pairs(), origin()].filter(Boolean);
const head = header();
head.append(el("nav", { "aria-label": "Sections" }, parts.map((part) => el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent))));
document.getElementById("page").append(head, ...parts);
