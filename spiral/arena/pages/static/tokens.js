// Tokens of replies: fetched where a turn's are opened, and gone through with the arrow keys. Without this script each
// turn has a link to a page of its own, with the same table.
"use strict";
for (const one of document.querySelectorAll("details.tokens")) {
  one.addEventListener("toggle", async () => {
    const link = one.querySelector("a");
    if (!one.open || !link) return;
    try {
      const answer = await fetch(link.href);
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html"), told = page.getElementById("tokens");
      told.removeAttribute("id");
      link.replaceWith(told);
      walkable(told);
    } catch { /* the link stays */ }
  });
}
for (const one of document.querySelectorAll("#tokens")) walkable(one);

// One stop for the Tab key; from there the arrows go from token to token, and what each is, is read out.
function walkable(part) {
  const strip = part.querySelector(".strip"), all = [...strip.children], reading = part.querySelector(".reading");
  let at = 0;
  all.forEach((one, n) => {
    one.tabIndex = n ? -1 : 0;
    one.setAttribute("aria-label", `${one.textContent}: ${one.title}`);
    one.addEventListener("focus", () => {
      all[at].tabIndex = -1;
      one.tabIndex = 0; at = n;
      reading.hidden = false;
      reading.textContent = `Token ${n + 1} of ${all.length}: ${JSON.stringify(one.textContent)}, ${one.title}`;
    });
  });
  strip.addEventListener("keydown", (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();  // the same keys go from turn to turn elsewhere on the page
    all[Math.min(all.length - 1, Math.max(0, to))].focus();
  });
}
