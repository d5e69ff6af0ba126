
// Lays out the page of a run: header, policy tables, and the sections that the other scripts build. Every name and text
// in the data is untrusted and goes in as a text node.

function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${format(seconds)} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// ---- Header

function header() {
  const total = data.steps, done = total ? Math.min(data.done, total) : data.done;
  const others = data.learners.filter(({ name }) => name);
  const facts = [
    data.played.length || !known(bits) ? [data.played.length === 1 ? "Game" : "Games", data.played.join(", ") || "unknown"] : ["Learns from", "text"],
    ["Model", data.model || "unknown"],
    ...(others.length ? [["Policies in training", ["the main one", ...others.map(({ name }) => name)].join(", ")]] : []),
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
  const found = [text(), ...games.map((game) => exact(game) || matched(game) || alone(game))].filter(Boolean);
  if (found.length) return found;
  const why = names.length ? "No evaluation yet: nothing here says how well it plays." : "No step is recorded yet.";
  return el("p", { class: "muted" }, why);
}

function fact(name, big, ...below) {
  return el("div", null, el("div", { class: "name" }, name), el("div", { class: "big" }, big), below);
}
const from = (text) => el("div", { class: "from" }, text);
const muted = (text) => el("div", { class: "muted" }, text);
const fromTo = ({ x, y }) => from(y.length > 1 ? `from ${format(y[0])} at step ${x[0]}, to ${format(y.at(-1))} at step ${x.at(-1)}` : `at step ${x[0]}`);

function exact(game) {
  const name = game.exact.whole.nash_conv;
  if (last(name) === undefined) return null;
  return fact(`NashConv, ${game.name}`, format(last(name)), fromTo(data.series[name]), muted("Exact; 0 is a Nash equilibrium"), forfeits(game));
}

// NashConv is about the choice among legal moves, so it looks well on a policy that hardly ever makes one.
function forfeits(game) {
  const mass = last(game.exact.whole.illegal_mass);
  return mass > 0.1 ? el("div", { class: "bad" }, `It leaves out that ${percent(mass, 2)} of the replies are no legal move`) : null;
}

// What a player alone got in matches, or else in training, which is progress; with more players returns only tell players
// apart.
function alone(game) {
  const measured = game.exact.whole.return;
  if (last(measured) !== undefined) return fact(`Mean return, ${game.name}`, format(last(measured)), fromTo(data.series[measured]), muted("Of matches; one player, no opponents"));
  if (!single(game)) return null;
  const name = ofPlayer(game.play, "return", 0);
  return fact(`Mean return, ${game.name}`, format(last(name)), fromTo(data.series[name]), muted("Of the games it learned from; one player, no opponents"));
}

function matched(game) {
  for (const match of game.matches) {
    const found = rows(match, "win").filter(({ name }) => last(name) !== undefined);
    if (!found.length) continue;
    const bound = (end, player) => percent(last(ofPlayer(match, end, player)));
    const results = found.map(({ player, name }) => el("div", null,
      el("div", { class: "big" }, format(100 * last(name)), el("small", null, "%")),
      from(`as player ${player}, ${bound("win_low", player)} to ${bound("win_high", player)}`)));
    return el("div", null,
      el("div", { class: "name" }, `Games won against ${match.opponent}, ${game.name}`),
      el("div", { class: "by-player" }, results),
      muted(`At step ${data.series[found[0].name].x.at(-1)}, with its interval`));
  }
  return null;
}

function status() {
  const refused = data.totals["learner/refused"];
  const said = collapses();
  const voided = Math.max(data.num_voided, data.totals["play/voided"]);
  if (voided) said.push(`${count(voided, "game")} voided and replaced${causes()}`);
  if (refused) said.push(`${count(refused, "step")} refused because the loss or gradient was not finite`);
  for (const [name, number] of Object.entries(data.unreadable)) said.push(`${number} unreadable ${number === 1 ? "entry" : "entries"} in ${name}`);
  const line = el("p", null, el("span", { class: said.length ? "mark bad" : "mark" }),
    said.length ? `${said.join("; ")}.` : names.length ? "No collapse was seen, no game was voided and no step refused." : "Nothing has gone wrong so far.");
  if (!data.voided.length) return el("div", { class: "status" }, line);
  const list = data.voided.map((game) => el("li", null,
    el("span", { class: "muted" }, `step ${format(game.step, 9)}, ${game.game}, deal ${game.deal}, after ${count(game.moves.length, "move")}: `), game.reason,
    game.moves.length ? el("div", { class: "text bare muted" }, `moves: ${game.moves.join(" ")}`) : null));
  const title = data.num_voided > list.length ? `The last ${list.length} of ${data.num_voided} voided games` : "The voided games";
  return el("div", { class: "status" }, line, el("details", null, el("summary", null, title), el("ul", null, list)));
}

// Whether the game itself misbehaved, or a remote player did not answer.
function causes() {
  const found = Object.entries(data.voided_causes).map(([cause, number]) => cause === "game" ? `${number} because the game itself misbehaved` : `${number} by ${cause}`);
  return found.length ? `: ${found.join(", ")}` : "";
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

// ---- Config and plug-ins

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

const sections = [truth(), predicted(), tasks(), policies(), health(), pool(), play(), learner(), speed(), timeline(), replay(), written(), config(), plugins()];
sections.splice(11, 0, others()); // built last, placed before the config: it shows what the others left
const present = sections.filter(Boolean);
document.getElementById("page").append(
  header(),
  present.length ? el("nav", { "aria-label": "Sections" }, present.map((one) => el("a", { href: `#${one.id}` }, one.querySelector("h2").textContent))) : "",
  ...present,
  el("footer", null, "Drawn from the files in this run's directory; it needs no network."));
