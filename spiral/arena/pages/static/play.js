// The page on which a person plays: one socket, the messages of spiral.arena.sockets. All text is set as text.
"use strict";
const $ = (id) => document.getElementById(id);
const KEY = "arena-token", GAMES = "arena-games", PING_MS = 600, SILENT_MS = 1300, DEAD_MS = 6000;
let socket = null, retry = 300, retrying = 0, heardAt = 0, missed = 0, live = false;
let match = null, turn = null, number = -1, until = 0, seen = [], games = [], wanted = false;

// ---- who plays: a token that is kept in the browser, or comes in the part of an address that no server is sent
const brought = new URLSearchParams(location.hash.slice(1)).get("token");
if (brought) {
  localStorage.setItem(KEY, brought);
  history.replaceState(null, "", location.pathname + location.search);
}

async function token() {
  if (localStorage.getItem(KEY)) return true;
  const name = $("name").value.trim();
  const body = JSON.stringify(name ? { kind: "person", name } : { kind: "guest" });
  let answer;
  try { answer = await fetch("/api/players", { method: "POST", body }); } catch { say("Not connected. Try again."); return false; }
  if (!answer.ok) { say(await answer.text()); return false; }
  localStorage.setItem(KEY, (await answer.json()).token);
  if (name) $("secret").open = true;
  return true;
}

function known(name) {
  $("known").hidden = !name;
  $("naming").hidden = Boolean(name);
  $("me").textContent = name || "";
  $("link").value = name ? `${location.origin}/play#token=${localStorage.getItem(KEY)}` : "";
}

$("copy").addEventListener("click", async () => {
  $("link").select();
  try { await navigator.clipboard.writeText($("link").value); $("copy").textContent = "Copied"; } catch { /* it is selected */ }
});
$("forget").addEventListener("click", () => {
  localStorage.removeItem(KEY);
  known(null);
  close();
  say("");
  $("name").focus();
});

// ---- which games
const boxes = [...document.querySelectorAll("input[name=game]")];
const wish = new URLSearchParams(location.search).get("game");
const before = JSON.parse(localStorage.getItem(GAMES) || "[]").filter((name) => boxes.some((box) => box.value === name));
for (const box of boxes) box.checked = wish ? box.value === wish : !before.length || before.includes(box.value);
$("every").addEventListener("click", () => check(true));
$("none").addEventListener("click", () => check(false));
function check(on) { for (const box of boxes) if (!box.closest("label").hidden) box.checked = on; }
$("find")?.addEventListener("input", () => {
  for (const box of boxes) box.closest("label").hidden = !box.value.toLowerCase().includes($("find").value.trim().toLowerCase());
});

$("choose").addEventListener("submit", async (event) => {
  event.preventDefault();
  games = boxes.filter((box) => box.checked).map((box) => box.value);
  if (!games.length) return say("Choose a game.");
  localStorage.setItem(GAMES, JSON.stringify(games));
  if (await token()) queue();
});
$("again").addEventListener("click", () => { if (!games.length) games = [match.game]; queue(); });
$("other").addEventListener("click", () => { part("choose"); say(""); $("choose").querySelector("button[type=submit]").focus(); });
$("cancel").addEventListener("click", () => { wanted = false; send({ kind: "unqueue" }); });

function queue() {
  wanted = true;
  if (!send({ kind: "queue", games })) connect();
}

function part(id) {
  for (const one of ["choose", "match"]) $(one).hidden = one !== id;
  $("cancel").hidden = id !== "waiting";
}

// ---- the connection: asked for a sign of life all the time, so that its loss shows at once
function connect() {
  clearTimeout(retrying);
  close();
  const opened = socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/play`);
  heardAt = Date.now(); live = false;
  opened.onopen = () => send({ kind: "hello", token: localStorage.getItem(KEY) });
  opened.onmessage = (event) => {
    heardAt = Date.now();
    if (live && !$("lost").hidden) lost("");  // it was late, and not gone
    heard(JSON.parse(event.data));
  };
  opened.onclose = (event) => { if (opened === socket) closed(event.code); };
}

function close() {
  if (!socket) return;
  const old = socket;
  socket = null;
  old.onmessage = old.onclose = null;
  old.close();
}

function closed(code) {
  socket = null;
  if (code === 4401) {
    localStorage.removeItem(KEY);
    known(null); part("choose");
    return say("This browser is not known here any more. Find a match to begin anew.");
  }
  if (code === 4408) { lost("You are connected in another window. Reload to play here."); return; }
  lost(LOST);
  retrying = setTimeout(connect, retry);
  retry = Math.min(retry * 2, 5000);
}

const LOST = "Not connected. Your match waits for you while the clock runs; trying again…";

function lost(text) {
  $("lost").hidden = !text;
  if (text) $("lost").textContent = text;
  for (const one of document.querySelectorAll("#moves button, #say button")) one.disabled = Boolean(text);
}

function send(message) {
  if (!socket || socket.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify(message));
  return true;
}

// Silence is told at once; the connection is given up later, since a new one may take as long as the old one's answer.
setInterval(() => {
  if (!socket) return;
  const silent = Date.now() - heardAt;
  if (silent > DEAD_MS) { close(); return closed(0); }
  if (live && silent > SILENT_MS) lost(LOST);
  send({ kind: "ping" });
}, PING_MS);

// ---- what is heard
function heard(message) {
  const { kind } = message;
  if (kind === "welcome") {
    retry = 300; live = true;
    lost("");
    known(message.name);
    if (message.in_match) return;
    if (match && !match.over) missedEnd();
    if (wanted) send({ kind: "queue", games });
  } else if (kind === "queued") {
    part("waiting"); $("cancel").focus();
    say("Waiting for another player; in a few seconds the house plays.");
  } else if (kind === "unqueued") {
    part("choose"); say("");
  } else if (kind === "match") {
    begin(message);
  } else if (kind === "state") {
    show(message); ask(null);
    $("turn").textContent = `${match.players[message.to_move]} is to move.`;
  } else if (kind === "turn") {
    show({ ...message, to_move: match.seat }); ask(message);
    $("turn").textContent = "Your turn.";
  } else if (kind === "illegal") {
    refused(message.reason);
  } else if (kind === "history") {
    if (match && message.match === match.match) past(message.seen);
  } else if (kind === "pong") {
    standing(message.standing);
  } else if (kind === "over") {
    over(message);
  } else if (kind === "pending") {
    ask(null); $("turn").textContent = "The match is over. Its rating is pending.";
  } else if (kind === "error") {
    say(message.reason);
  }
}

function begin(message) {
  const same = match && match.match === message.match;
  match = message; wanted = false; missed = 0;
  part("match"); say("");
  if (!same) { turn = null; number = -1; seen = []; $("history").replaceChildren(); $("observation").textContent = ""; }
  $("title").textContent = message.game;
  $("rules").textContent = message.rules;
  $("told").hidden = !message.rules;
  $("players").replaceChildren(...message.players.map((name, seat) => {
    const one = document.createElement("li"), text = document.createElement("span");
    text.className = `seat${seat % 4}`;
    text.textContent = seat === message.seat ? `${name} (you)` : name;
    one.append(text);
    return one;
  }));
  for (const one of ["again", "other", "replay"]) $(one).hidden = true;
  $("leave").hidden = false;
  $("reason").textContent = "";
  send({ kind: "history" });
}

// The page has missed a message when the server says twice that the match stands otherwise than it shows.
function standing(told) {
  if (!told || !match || match.over) { missed = 0; return; }
  const same = told[0] === match.match && told[1] === number && told[2] === Boolean(turn);
  missed = same ? 0 : missed + 1;
  if (missed >= 2) { missed = 0; send({ kind: "again" }); }
}

function show(message) {
  number = message.number;
  for (const [seat, one] of [...$("players").children].entries()) one.setAttribute("aria-current", seat === message.to_move);
  until = message.clock_s ? Date.now() + message.clock_s * 1000 : 0;
  look(message.observation, message.to_move);
}

function look(observation, by) {
  const last = seen.at(-1);
  $("observation").textContent = laid(observation);
  $("observation").scrollTop = $("observation").scrollHeight;
  if (last && last.observation === observation && last.mine === null) { last.by = by; return; }
  seen.push({ observation, by, mine: null });
  line(seen.length - 1);
}

// ---- history: what was new in each turn, and what was moved
function line(at) {
  const { observation, mine } = seen[at], one = document.createElement("li"), text = document.createElement("pre");
  const earlier = at ? seen[at - 1].observation : "";
  text.textContent = observation === earlier ? "" : laid(news(earlier, observation));
  one.append(text);
  $("history").append(one);
  moved(at, mine);
  $("history").scrollTop = $("history").scrollHeight;
}

function moved(at, mine) {
  if (mine === null) return;
  seen[at].mine = mine;
  const one = $("history").children[at], text = one.querySelector("b") || document.createElement("b");
  text.textContent = `you: ${mine}`;
  one.append(text);
}

function refused(reason) {
  const last = seen.at(-1);
  $("reason").textContent = reason;
  if (!last || last.mine === null) return;
  $("text").value = last.mine;  // to be mended
  last.mine = null;
  $("history").lastChild.querySelector("b")?.remove();
}

function past(told) {
  // The answer may be older than what was seen since it was asked for: that stays, behind what is told.
  const newest = told.at(-1), at = newest ? seen.findLastIndex((one) => one.observation === newest[0]) : -1;
  const later = seen.slice(at + 1);
  if (at >= 0) newest[2] ??= seen[at].mine;
  seen = [];
  $("history").replaceChildren();
  for (const [observation, by, mine] of told) {
    const last = seen.at(-1);
    if (last && last.observation === observation && last.mine === null) { last.by = by; moved(seen.length - 1, mine); continue; }
    seen.push({ observation, by, mine });
    line(seen.length - 1);
  }
  for (const one of later) { seen.push(one); line(seen.length - 1); }
}

// ---- moves
function ask(message) {
  const same = turn && message && turn.match === message.match && turn.number === message.number;
  turn = message;
  if (same) return;  // told again: what has the focus keeps it
  $("moves").replaceChildren();
  $("say").hidden = !message || message.legal_moves !== null;
  if (!message) return;
  if (message.legal_moves === null) { $("text").focus(); return; }
  $("moves").classList.toggle("short", message.legal_moves.every((one) => one.length < 3));
  for (const one of message.legal_moves) {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = one;
    button.addEventListener("click", () => move(one));
    $("moves").append(button);
  }
  $("moves").firstChild?.focus({ preventScroll: true });
}

function move(text) {
  if (!turn || !send({ kind: "move", number: turn.number, move: text })) return;
  moved(seen.length - 1, text);
  ask(null);
  $("reason").textContent = "";
  $("text").value = "";
  $("turn").textContent = "Sent.";
}

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("text").value) move($("text").value);
});

// Arrows go through the legal moves, and a letter or digit to the next one that begins with it.
$("moves").addEventListener("keydown", (event) => {
  const all = [...$("moves").children], at = all.indexOf(document.activeElement);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  let next = null;
  if (step) next = all[(at + step + all.length) % all.length];
  else if (event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const key = event.key.toLowerCase();
    next = [...all.slice(at + 1), ...all.slice(0, at + 1)].find((one) => one.textContent.toLowerCase().startsWith(key));
  }
  if (next) { event.preventDefault(); next.focus(); }
});

// ---- the end
let sure = 0;
$("leave").addEventListener("click", () => {
  if (Date.now() - sure > 4000) {
    sure = Date.now();
    $("leave").textContent = "Really give up?";
    setTimeout(() => { $("leave").textContent = "Give up"; }, 4000);
  } else send({ kind: "leave" });
});

const ENDINGS = { finished: "", timeout: " The clock ran out.", left: " A player gave up.", illegal: " By three illegal moves." };

function over(message) {
  match.over = true;
  const of = { win: "You won.", draw: "A draw.", loss: "You lost.", voided: "The match does not count." }[message.outcome];
  const change = message.ratings.filter((one) => one.game).map((one) => ` Rating ${one.before[0].toFixed(1)} → ${one.after[0].toFixed(1)}.`).join("");
  if (message.observation) look(message.observation, null);
  ended(`${of}${ENDINGS[message.ending] ?? ""}${change}`);
}

function missedEnd() {  // its end was told to no connection
  match.over = true;
  ended("The match ended while you were away.");
}

function ended(text) {
  ask(null);
  until = 0; sure = 0;
  for (const one of $("players").children) one.setAttribute("aria-current", false);
  $("turn").textContent = text;
  $("leave").hidden = true;
  // Of a match in a run, which keeps it itself: the run's page, where there is one.
  const inRun = match.replay !== undefined;
  $("replay").href = inRun ? match.replay : `/matches/${match.match}`;
  $("replay").textContent = inRun ? "The run" : "Replay";
  for (const one of ["again", "other"]) $(one).hidden = false;
  $("replay").hidden = inRun && !match.replay;
  $("again").focus();
}

function say(text) { $("status").textContent = text; }

setInterval(() => {
  const left = Math.max(0, Math.round((until - Date.now()) / 1000));
  $("clock").textContent = until ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "";
  $("clock").classList.toggle("bad", until > 0 && left < 10);
}, 250);

if (localStorage.getItem(KEY)) connect();
