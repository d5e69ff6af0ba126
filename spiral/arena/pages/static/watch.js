// A spectator's page: one socket, and what may be known of a match in play. Silence is told, and ends in a new connection.
"use strict";
const $ = (id) => document.getElementById(id);
const match = $("watch").dataset.match, SILENT_MS = 2500, DEAD_MS = 7000, NOT_IN_PLAY = 4404, FULL = 4429;
let socket = null, heardAt = 0, retry = 300, until = 0;

function connect() {
  const opened = socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/watch/${match}`);
  heardAt = Date.now();
  opened.onmessage = (event) => {
    heardAt = Date.now();
    const message = JSON.parse(event.data);
    if (message.kind === "error") return lost(`${message.reason}.`);
    lost("");
    if (message.kind === "over") location.reload();  // to its replay
    else if (message.kind === "state") { retry = 300; show(message); }
  };
  opened.onclose = (event) => { if (opened === socket) closed(event.code); };
}

function closed(code) {
  if (socket) socket.onmessage = socket.onclose = null;
  socket?.close();
  socket = null;
  if (code === NOT_IN_PLAY) return location.reload();  // it ended meanwhile
  if (code !== FULL) lost(LOST);
  setTimeout(connect, code === FULL ? 10_000 : retry);
  retry = Math.min(retry * 2, 5000);
}

const LOST = "Not connected. The match goes on meanwhile; trying again…";

function lost(text) {
  $("lost").hidden = !text;
  if ($("lost").textContent !== text) $("lost").textContent = text;
}

function show(message) {
  for (const [seat, one] of [...$("players").children].entries()) one.setAttribute("aria-current", seat === message.to_move);
  $("status").textContent = message.to_move === null ? "It begins." : `${message.players[message.to_move]} is to move, turn ${message.number + 1}.`;
  until = Date.now() + message.clock_s * 1000;
  const shown = message.observation !== null;
  if (shown) $("observation").textContent = laid(message.observation);
  $("observation").hidden = !shown;
  $("hidden").hidden = shown || message.to_move === null;
}

// Told at once; the connection is given up later, since a new one may take as long as the old one's answer.
setInterval(() => {
  $("clock").textContent = until ? `${Math.max(0, Math.round((until - Date.now()) / 1000))} s` : "";
  const silent = Date.now() - heardAt;
  if (!socket) return;
  if (silent > DEAD_MS) closed(0);
  else if (silent > SILENT_MS) lost(LOST);
}, 250);
connect();
