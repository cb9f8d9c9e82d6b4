// @ts-check
/** What waits in the lanes, at a glance. */

import { byId, el } from "./dom.js";
import { counted, duration } from "./words.js";

/** Milliseconds between looks while the page is seen: often enough to see a queue move, and no load. */
const LOOK_MS = 5000;

/**
 * Look now and from then on; the returned function looks at once.
 * @param {import("./api.js").Gateway} gateway
 * @param {(lanes: string[]) => void} onLanes
 */
export function watchLanes(gateway, onLanes) {
  let timer = 0;
  async function look() {
    clearTimeout(timer);
    try {
      const queue = await gateway.queue();
      show(queue);
      onLanes(queue.lanes.map((lane) => lane.name));
    } catch (error) {
      byId("lanes").replaceChildren();
      const needs = /** @type {any} */ (error).status === 401;
      byId("queue-note").replaceChildren(needs ? "shown with a token" : "not known: the gateway does not answer");
    }
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, LOOK_MS);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) void look(); });
  void look();
  return look;
}

/** @param {{waiting: number, lanes: Array<{name: string, waiting: number, oldest_s: number}>}} queue */
function show(queue) {
  byId("lanes").replaceChildren(...queue.lanes.map((lane) => el(
    "div", { class: lane.waiting ? "busy" : "" },
    el("dt", {}, lane.name),
    el("dd", {}, lane.waiting, lane.waiting > 0 && age(lane)),
  )));
  const here = queue.lanes.reduce((sum, lane) => sum + lane.waiting, 0);
  const elsewhere = queue.waiting - here;
  byId("queue-note").replaceChildren(elsewhere > 0 ? `and ${counted(elsewhere, "submission")} of other gateways` : "");
}

/** @param {{oldest_s: number}} lane */
function age(lane) {
  return el("span", { class: "age" }, ` for ${duration(lane.oldest_s * 1000)}`);
}
