
// The section on the processes of a run on a cluster: a lane each, coloured where it works, empty where it waits.

const WORK = new Map([["playing", [0, "plays games"]], ["rollout", [7, "waits for games"]], ["learner", [1, "updates"]],
  ["answering", [4, "answers requests"]], ["waiting", [7, "waits for replies"]], ["eval", [2, "evaluates"]],
  ["credit", [3, "assigns credit"]]]);
const WAITS = ["rollout", "waiting"];

function timeline() {
  const found = data.timeline;
  if (!found) return null;
  const kinds = [...WORK].filter(([kind]) => found.lanes.some((lane) => lane.spans.some(([, , what]) => what === kind)));
  const legend = kinds.map(([, [colour, label]]) => el("span", null,
    svg("svg", { width: 14, height: 10, class: `c${colour}`, "aria-hidden": true }, svg("rect", { width: 14, height: 10, class: "work" })), label));
  const left = found.num_lanes - found.lanes.length;
  return section("processes", "Processes", found.sentence,
    el("div", { class: "legend" }, legend),
    el("div", { class: "lanes", role: "group", "aria-label": `The last ${format(found.seconds)} seconds by process` }, found.lanes.map((lane) => drawnLane(lane, found.seconds))),
    el("p", { class: "muted" }, `The last ${format(found.seconds)} s of the run, from left to right.${left ? ` ${left} more processes are not drawn.` : ""}`));
}

function drawnLane(lane, seconds) {
  const parts = lane.spans.map(([from, to, what]) => svg("rect", {
    x: `${(100 * from) / seconds}%`, width: `${Math.max(0.05, (100 * (to - from)) / seconds)}%`, height: "100%",
    class: `work c${(WORK.get(what) || [6])[0]}${WAITS.includes(what) ? " waits" : ""}` }));
  return el("div", { class: "lane" }, el("span", null, lane.name), svg("svg", { height: 18, "aria-hidden": true }, parts),
    el("span", { class: "muted" }, `works ${percent(lane.busy, 2)}`));
}
