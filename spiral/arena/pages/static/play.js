// The page on which a person plays: one socket, the messages of spiral.arena.sockets. All text is set as text.
"use strict";
const $ = (id) => document.getElementById(id);
const KEY = "arena-token";
let socket = null, match = null, turn = null, until = 0, games = [], wanted = false, retry = 500;

const wish = new URLSearchParams(location.search).get("game");
for (const box of document.querySelectorAll("input[name=game]")) box.checked = wish ? box.value === wish : true;

$("choose").addEventListener("submit", async (event) => {
  event.preventDefault();
  games = [...document.querySelectorAll("input[name=game]:checked")].map((box) => box.value);
  if (!games.length) return say("Choose a game.");
  if (!(await token())) return;
  wanted = true;
  if (socket && socket.readyState === WebSocket.OPEN) send({ kind: "queue", games }); else connect();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("text").value) move($("text").value);
});
$("leave").addEventListener("click", () => send({ kind: "leave" }));
$("again").addEventListener("click", () => { $("match").hidden = true; $("choose").hidden = false; wanted = true; send({ kind: "queue", games }); });

async function token() {
  const name = $("name").value.trim();
  if (localStorage.getItem(KEY) && !name) return true;
  const body = JSON.stringify(name ? { kind: "person", name } : { kind: "guest" });
  const answer = await fetch("/api/players", { method: "POST", body });
  if (!answer.ok) { say(await answer.text()); return false; }
  localStorage.setItem(KEY, (await answer.json()).token);
  $("name").value = "";
  return true;
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/play`);
  socket.onopen = () => { retry = 500; send({ kind: "hello", token: localStorage.getItem(KEY) }); };
  socket.onmessage = (event) => heard(JSON.parse(event.data));
  socket.onclose = (event) => {
    if (event.code === 4401) { localStorage.removeItem(KEY); return say("This browser was not known any more. Try again."); }
    if (event.code === 4408) return say("You are connected in another window. Reload to play here.");
    say("Not connected. Trying again…");
    setTimeout(connect, retry);
    retry = Math.min(retry * 2, 8000);
  };
}

function heard(message) {
  const { kind } = message;
  if (kind === "welcome") {
    say(message.in_match ? "" : `You are ${message.name}.`);
    if (!message.in_match && wanted) send({ kind: "queue", games });
  } else if (kind === "queued") {
    say("Waiting for another player; in a few seconds the house plays.");
  } else if (kind === "match") {
    match = message; wanted = false;
    $("match").hidden = false; $("choose").hidden = true; $("again").hidden = true; $("leave").hidden = false;
    $("title").textContent = `${message.game}: ${message.players.map((name, n) => (n === message.seat ? `${name} (you)` : name)).join(" against ")}`;
    $("rules").textContent = message.rules;
    say("");
  } else if (kind === "state") {
    show(message.observation, message.clock_s); ask(null);
    $("reason").textContent = "";
    say(`${match.players[message.to_move]} is to move.`);
  } else if (kind === "turn") {
    show(message.observation, message.clock_s);
    if (!turn || turn.number !== message.number) $("reason").textContent = "";
    ask(message); say("Your turn.");
  } else if (kind === "illegal") {
    $("reason").textContent = message.reason;
  } else if (kind === "over") {
    const of = { win: "You won.", draw: "A draw.", loss: "You lost.", voided: "The match does not count." }[message.outcome];
    const change = message.ratings.filter((one) => one.game).map((one) => ` Rating ${one.before[0].toFixed(1)} → ${one.after[0].toFixed(1)}.`).join("");
    show(message.observation, 0); ask(null);
    say(`${of}${message.ending === "finished" ? "" : ` (${message.ending})`}${change}`);
    $("leave").hidden = true; $("again").hidden = false; $("again").focus();
  } else if (kind === "pending") {
    ask(null); say("The match is over. Its rating is pending.");
  } else if (kind === "error") {
    say(message.reason);
  }
}

function show(observation, seconds) {
  if (observation) $("observation").textContent = observation;
  until = seconds ? Date.now() + seconds * 1000 : 0;
}

function ask(message) {
  turn = message;
  $("moves").replaceChildren();
  $("say").hidden = !message || message.legal_moves !== null;
  if (!message) return;
  if (message.legal_moves === null) { $("text").value = ""; $("text").focus(); return; }
  for (const one of message.legal_moves) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = one;
    button.addEventListener("click", () => move(one));
    $("moves").append(button);
  }
  $("moves").firstChild?.focus();
}

function move(text) {
  if (!turn) return;
  send({ kind: "move", number: turn.number, move: text });
}

function send(message) { if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); }
function say(text) { $("status").textContent = text; }

setInterval(() => {
  const left = Math.max(0, Math.round((until - Date.now()) / 1000));
  $("clock").textContent = until ? `${left} s for this move` : "";
}, 250);
if (localStorage.getItem(KEY)) connect();
