// A spectator's page: one socket, and what anybody may know of a match in play.
"use strict";
const $ = (id) => document.getElementById(id);
const match = $("watch").dataset.match;
let until = 0;

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/watch/${match}`);
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.kind !== "state") return location.reload();
    for (const [seat, one] of [...$("players").children].entries()) one.setAttribute("aria-current", seat === message.to_move);
    $("status").textContent = message.to_move === null ? "It begins." : `${message.players[message.to_move]} is to move, turn ${message.number + 1}.`;
    until = Date.now() + message.clock_s * 1000;
    const shown = message.observation !== null;
    if (shown) $("observation").textContent = laid(message.observation);
    $("observation").hidden = !shown;
    $("hidden").hidden = shown || message.to_move === null;
  };
  socket.onclose = (event) => {
    if (event.code === 4404) return;
    $("status").textContent = "Not connected; trying again…";
    setTimeout(() => location.reload(), 2000);
  };
}
setInterval(() => { $("clock").textContent = until ? `${Math.max(0, Math.round((until - Date.now()) / 1000))} s` : ""; }, 250);
connect();
