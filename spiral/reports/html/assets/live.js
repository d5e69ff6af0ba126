
// Keeps the page of a run that still trains up to date, where a server shows it. It asks whether the run wrote more, and
// loads the page anew then, unless the reader has opened or chosen something that this would close.

function live() {
  const line = el("span", { class: "muted", role: "status" }, "Watched live.");
  document.getElementById("page").prepend(el("p", { class: "live" }, el("a", { href: data.live.all }, "All runs"), line));
  const busy = () => document.activeElement !== document.body || document.querySelector("details[open]") !== null;
  const look = async () => {
    let told = null;
    try {
      const answer = await fetch(`${location.pathname}/state`, { cache: "no-store" });
      if (answer.ok) told = await answer.json();
    } catch { /* the server is gone, and may come back */ }
    if (!told) line.textContent = "Not connected: the page shows what was there before.";
    else if (told.stamp !== data.live.stamp && !busy()) return location.reload();
    else {
      const step = `Step ${told.done}${told.steps ? ` of ${told.steps}` : ""}`;
      const left = told.left_s === null ? "" : told.left_s === 0 ? ", done" : `, about ${duration(told.left_s)} left`;
      const more = told.stamp === data.live.stamp ? "" : " There is more: reload to see it.";
      line.textContent = `${step}${left}; it wrote ${duration(told.age_s)} ago.${more}`;
    }
    setTimeout(look, 1000 * data.live.every_s);
  };
  look();
}
if (data.live) live();
