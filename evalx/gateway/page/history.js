// @ts-check
/** The submissions of this browser, latest first. */

import { byId, el } from "./dom.js";
import * as store from "./store.js";
import { verdict } from "./words.js";

/** @typedef {import("./store.js").Visit} Visit */

/**
 * Show what is kept.
 * @param {(visit: Visit) => void} onChoose
 */
export function showHistory(onChoose) {
  const visits = store.visits();
  byId("clear-history").hidden = visits.length === 0;
  const items = visits.map((visit) => el("li", {}, entry(visit, onChoose)));
  const none = el("li", { class: "hint" }, "What you run is listed here, and nowhere else.");
  byId("history").replaceChildren(...(items.length ? items : [none]));
}

/**
 * @param {Visit} visit
 * @param {(visit: Visit) => void} onChoose
 */
function entry(visit, onChoose) {
  const words = verdict(visit.verdict);
  const none = visit.verdict === "CE" || visit.verdict === "JE";
  const passed = none ? "" : `, ${visit.passed} of ${visit.draft.tests.length}`;
  const state = visit.verdict === null ? "no result yet" : words.name + passed;
  return el(
    "button", { type: "button", on: { click: () => onChoose(visit) } },
    el("span", { class: `badge small ${visit.verdict === null ? "quiet" : words.kind}` }, visit.verdict ?? "…"),
    el("span", { class: "what" }, `${visit.title}: ${state}`),
    el("time", { datetime: new Date(visit.at).toISOString() }, when(visit.at)),
  );
}

/** @param {number} at */
function when(at) {
  const date = new Date(at);
  const today = new Date().toDateString() === date.toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? time : `${date.toLocaleDateString()} ${time}`;
}

/**
 * What a result is remembered by.
 * @param {any} result
 */
export function remembered(result) {
  if (result === null) return { verdict: null, passed: 0 };
  const passed = result.tests.filter((/** @type {any} */ one) => one.verdict === "AC" || one.verdict === "OK").length;
  return { verdict: result.status === "compile_error" ? "CE" : (result.verdict ?? "JE"), passed };
}
