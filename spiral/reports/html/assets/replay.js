
// The viewer of kept games: a list with filters, and one game's turns with what each player saw and replied.

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
    if (!found.length) list.append(el("p", { class: "muted" }, "No kept game is like that; loosen the filters."));
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

const ended = (episode) => ({ illegal: "illegal move", cut: "cut at max_turns" })[episode.ending] || episode.ending;
const player = (number) => (number === null ? "player unknown" : `player ${number}`);

function item(episode, open) {
  return el("button", { type: "button", on: { click: open } },
    el("span", { class: "num" }, `step ${format(episode.step, 9)}`, several ? ` · ${episode.game}` : ""),
    el("span", { class: "score" }, episode.returns.map((value) => signed(value)).join(" / ")),
    el("span", { class: "policies" }, episode.policies.join(" – ")),
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
  const how = episode.ending === "cut" ? `Cut after ${count(episode.num_turns, "turn")}, as rollout.max_turns says.`
    : episode.ending === "illegal" ? `Ended by an illegal move of ${player(episode.offender)}.`
    : episode.ending === "finished" ? "The game was played to its end." : `Ended: ${episode.ending || "unknown"}.`;
  const left = episode.num_turns - episode.turns.length;
  return el("div", { class: "result" }, el("p", null, how, left ? ` ${count(left, "turn")} in the middle are left out here.` : ""),
    el("div", { class: "players" }, episode.returns.map((value, p) => el("span", { class: `chip c${p % 8}` }, el("b", null, `player ${p}`),
      el("span", { class: "num" }, signed(value))))));
}
