// How what a game shows is laid out, and what of it is new. All text is set as text.
"use strict";

// A word of equally long parts between slashes is a board: one row a line.
function laid(text) {
  return text.replace(/^\n+/, "").replace(/^([^\n]*?)(\S+(?:\/\S+){2,})([^\n]*)$/gm, (line, before, word, after) => {
    const rows = word.split("/");
    if (rows.some((row) => row.length !== rows[0].length || !row.length)) return line;
    return [before.trim(), rows.map((row) => [...row].join(" ")).join("\n"), after.trim()].filter(Boolean).join("\n");
  });
}

// The whole lines that `now` adds to `before`; all of it where the two begin otherwise or nothing is added.
function news(before, now) {
  const old = before.split("\n"), lines = now.split("\n");
  let same = 0;
  while (same < Math.min(old.length, lines.length) && old[same] === lines[same]) same += 1;
  return lines.slice(same).join("\n") || now;
}

for (const one of document.querySelectorAll(".seen")) one.textContent = laid(one.textContent);
