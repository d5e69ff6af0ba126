// A replay turn by turn, by the arrow keys too; without this script all turns are shown.
"use strict";
const turns = [...document.querySelectorAll(".turn")], end = document.getElementById("end");
const shown = end ? [...turns, end] : [];
let at = 0, all = false;

function show() {
  shown.forEach((one, n) => { one.hidden = !all && n !== at; });
  document.getElementById("at").textContent = all ? `${turns.length} turns` : at < turns.length ? `turn ${at + 1} of ${turns.length}` : "the end";
  document.getElementById("back").disabled = all || at === 0;
  document.getElementById("on").disabled = all || at === shown.length - 1;
}

function go(step) {
  if (all) return;
  at = Math.min(shown.length - 1, Math.max(0, at + step));
  show();
}

if (shown.length > 1) {
  document.getElementById("steps").hidden = false;
  document.getElementById("back").addEventListener("click", () => go(-1));
  document.getElementById("on").addEventListener("click", () => go(1));
  document.getElementById("all").addEventListener("click", (event) => {
    all = !all;
    event.target.setAttribute("aria-pressed", all);
    show();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") go(-1);
    if (event.key === "ArrowRight") go(1);
  });
  show();
}
