// @ts-check
/** The result as it comes: a tile for each test that turns when its verdict is known, and the chosen test in full. */

import { block, testInFull } from "./comparison.js";
import { el } from "./dom.js";
import { counted, duration, size, verdict } from "./words.js";

/**
 * What was sent, as far as the result is shown with it.
 * @typedef {{tests: Array<{stdin: string, expected: string}>, checker: string}} Sent
 */

/** Pixels between the edge of the tiles and the first one, as in the style sheet. */
const TILES_PADDING = 4;

/** The section of the result. */
export class ResultView {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Sent} */
    this.sent = { tests: [], checker: "lines" };
    /** @type {Map<string, any>} */
    this.known = new Map();
    /** @type {string | null} */
    this.chosen = null;
    this.byHand = false;
    /** @type {number | undefined} */
    this.frame = undefined;
    this.idle();
  }

  /** Nothing was run yet. */
  idle() {
    const text = "Press Run: each test gets a tile that turns when its verdict is known.";
    this.root.replaceChildren(el("p", { class: "hint" }, text));
  }

  /** @param {Sent} sent */
  begin(sent) {
    this.sent = sent;
    this.known = new Map();
    this.chosen = null;
    this.byHand = false;
    this.head = el("div", { class: "summary" });
    const tiles = sent.tests.map((_, index) => el("li", {}, this.#tile(index)));
    this.tiles = el("ol", { class: "tiles", "aria-label": "Tests" }, ...tiles);
    this.full = el("div", { "aria-live": "off" });
    this.root.replaceChildren(this.head, this.tiles, this.full);
  }

  /** How many tests have ended. */
  get ended() {
    return this.known.size;
  }

  /**
   * A test has ended, or is known in full.
   * @param {any} test
   */
  test(test) {
    this.known.set(test.id, test);
    this.#fill(Number(test.id) - 1, test);
    this.#scaleSoon();
    const failed = !["AC", "OK", "SK"].includes(test.verdict);
    // The first failure is what one wants to see, unless something else was chosen by hand.
    const first = this.#firstFailure();
    if (!this.byHand && failed && first === test.id) this.#choose(test.id, false);
    else if (this.chosen === test.id) this.#show();
  }

  /** @param {any} result */
  finish(result) {
    for (const test of result.tests) this.test(test);
    if (this.chosen === null && result.tests.length) this.#choose(result.tests[0].id, false);
    if (!result.tests.length) this.tiles.remove();
    this.head.replaceChildren(...summary(result));
    const log = result.compile?.output;
    if (log) this.root.append(block("Compiler's output", log, { none: "", open: result.status === "compile_error" }));
    const legend = result.tests.length ? " Bars show CPU time and memory next to the largest of this run." : "";
    const origin = `Submission ${result.id}, lane ${result.lane ?? "unknown"}.`;
    this.root.append(el("p", { class: "hint id" }, origin + legend));
  }

  /** Nothing more will come of those that have not ended. */
  stop() {
    for (const tile of this.tiles?.querySelectorAll(".waiting") ?? []) tile.classList.replace("waiting", "left");
  }

  /** @param {number} index */
  #tile(index) {
    const id = String(index + 1);
    const spoken = { "aria-pressed": "false", "aria-label": `Test ${id}: waiting` };
    return el(
      "button",
      { type: "button", class: "tile waiting", ...spoken, on: { click: () => this.#choose(id, true) } },
      el("span", { class: "tile-head" }, el("span", {}, id), el("strong", {}, "…")),
      bar("time"), bar("memory"),
    );
  }

  /**
   * @param {number} index
   * @param {any} test
   */
  #fill(index, test) {
    const tile = this.tiles.children[index]?.firstElementChild;
    if (!tile) return;
    const words = verdict(test.verdict), ran = test.verdict !== "SK" && test.verdict !== "JE";
    const time = ran ? duration(test.cpu_time_ms) : "", memory = ran ? size(test.peak_memory_bytes) : "";
    tile.className = `tile turned ${words.kind}`;
    tile.setAttribute("aria-label", [`Test ${index + 1}: ${words.name}`, time, memory].filter(Boolean).join(", "));
    tile.setAttribute("title", words.name);
    tile.querySelector("strong").replaceChildren(test.verdict);
    tile.querySelector(".time .value").replaceChildren(time);
    tile.querySelector(".memory .value").replaceChildren(memory);
  }

  /** Once a frame: a thousand tests may end within one. */
  #scaleSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#scale();
    });
  }

  /** The longest bar is the largest of this run. */
  #scale() {
    const tests = [...this.known.values()].filter((one) => one.verdict !== "SK" && one.verdict !== "JE");
    for (const [name, field] of [["time", "cpu_time_ms"], ["memory", "peak_memory_bytes"]]) {
      const most = Math.max(...tests.map((one) => one[field]), Number.MIN_VALUE);
      for (const one of tests) {
        const fill = this.tiles.children[Number(one.id) - 1]?.querySelector(`.${name} .fill`);
        fill?.style.setProperty("--share", String(one[field] / most));
      }
    }
  }

  #firstFailure() {
    const order = this.sent.tests.map((_, index) => String(index + 1));
    return order.find((id) => this.known.has(id) && !["AC", "OK", "SK"].includes(this.known.get(id).verdict));
  }

  /**
   * @param {string} id
   * @param {boolean} byHand
   */
  #choose(id, byHand) {
    this.chosen = id;
    this.byHand ||= byHand;
    this.tiles.querySelector('[aria-pressed="true"]')?.setAttribute("aria-pressed", "false");
    const item = this.tiles.children[Number(id) - 1];
    item?.firstElementChild?.setAttribute("aria-pressed", "true");
    this.#show();
    if (byHand) this.full.scrollIntoView({ block: "nearest" });
    else if (item) this.tiles.scrollTop += top(item) - top(this.tiles) - TILES_PADDING;
  }

  #show() {
    const test = this.known.get(this.chosen ?? "");
    const number = Number(this.chosen);
    const given = this.sent.tests[number - 1] ?? { stdin: "", expected: "" };
    if (test) this.full.replaceChildren(testInFull(test, given, number, this.sent.checker));
    else this.full.replaceChildren(el("p", { class: "hint" }, `Test ${number} has not ended yet.`));
  }
}

/** @param {Element} element */
function top(element) {
  return element.getBoundingClientRect().top;
}

/** @param {string} name */
function bar(name) {
  const track = el("span", { class: "track" }, el("span", { class: "fill" }));
  return el("span", { class: `bar ${name}` }, track, el("span", { class: "value" }));
}

/** @param {any} result */
function summary(result) {
  const [code, text] = headline(result);
  const words = verdict(code);
  const lines = [el("p", { class: "verdict" }, text), el("p", { class: "hint" }, circumstances(result))];
  return [el("p", { class: `badge ${words.kind}` }, code), el("div", {}, ...lines)];
}

/**
 * @param {any} result
 * @returns {[string, string]}
 */
export function headline(result) {
  if (result.status === "compile_error") return ["CE", verdict("CE").name];
  if (result.error) return ["JE", `${verdict("JE").name}: ${result.error.message}`];
  const passed = result.tests.filter((/** @type {any} */ one) => one.verdict === "AC" || one.verdict === "OK").length;
  const whole = `${passed} of ${counted(result.tests.length, "test")} passed`;
  if (result.verdict === "OK") return ["OK", `Ran: ${counted(passed, "test")}, nothing to compare`];
  return [result.verdict, `${verdict(result.verdict).name}: ${whole}`];
}

const SOURCES = { executed: "", result_cache: "answered from the cache", joined: "judged together with an equal one" };

/** @param {any} result */
function circumstances(result) {
  const parts = [];
  const compile = result.compile;
  if (compile) parts.push(compile.cached ? "compiled before" : `compiled in ${duration(compile.wall_time_ms)}`);
  if (typeof result.judged_ms === "number") parts.push(`judged in ${duration(result.judged_ms)}`);
  if (typeof result.queued_ms === "number") parts.push(`waited ${duration(result.queued_ms)}`);
  parts.push(SOURCES[/** @type {"executed"} */ (result.source)] ?? "");
  return `${result.language} ${result.version}: ${parts.filter(Boolean).join(", ")}.`;
}
