// @ts-check
/** One test in full: what it read, what it wrote, and where that leaves what was expected. */

import { diffLines } from "./diff.js";
import { el, visible } from "./dom.js";
import { duration, ending, size, verdict } from "./words.js";

/** Lines of a comparison and characters of a text that are shown; a browser chokes on megabytes of one line. */
const MOST_LINES = 400, MOST_CHARACTERS = 20_000, MOST_LINE = 1000;
/** Equal lines that are shown around a difference. */
const AROUND = 3;

/**
 * @param {any} test  a TestResult, or what is told of it while others run
 * @param {{stdin: string, expected: string}} given
 * @param {number} number
 * @param {string} checker
 */
export function testInFull(test, given, number, checker) {
  const words = verdict(test.verdict);
  const title = el("h3", {}, `Test ${number}: `, el("span", { class: `ink ${words.kind}` }, words.name));
  const parts = [title, el("p", {}, `${words.what} ${facts(test)}`)];
  if (test.stdout === undefined) parts.push(el("p", { class: "hint" }, "Its output comes with the result."));
  else parts.push(...outputs(test, given, checker));
  parts.push(block("Input", given.stdin, { none: "empty", open: false }));
  return el("div", { class: "full" }, ...parts);
}

/** @param {any} test */
function facts(test) {
  if (test.verdict === "SK" || test.verdict === "JE") return "";
  const times = [`${duration(test.cpu_time_ms)} of CPU time`, `${duration(test.wall_time_ms)} elapsed`];
  return `${[ending(test), ...times, size(test.peak_memory_bytes)].filter(Boolean).join(", ")}.`;
}

/**
 * @param {any} test
 * @param {{stdin: string, expected: string}} given
 * @param {string} checker
 */
function outputs(test, given, checker) {
  const stdout = decoded(test.stdout, test.encoding), stderr = decoded(test.stderr, test.encoding);
  const parts = [];
  if (stdout.odd || stderr.odd) parts.push(hint("The output is not all UTF-8; � stands for bytes that are none."));
  if (test.verdict === "WA") parts.push(comparison(given.expected, stdout.text, checker));
  else parts.push(block("Output", stdout.text, { none: "nothing was written", open: true }));
  if (test.stdout_truncated || test.stderr_truncated) parts.push(hint("The output was cut at the limit."));
  if (stderr.text) parts.push(block("Error output", stderr.text, { none: "", open: test.verdict !== "AC" }));
  return parts;
}

/** @param {string} text */
function hint(text) {
  return el("p", { class: "hint" }, text);
}

/**
 * @param {string} expected
 * @param {string} actual
 * @param {string} checker
 */
function comparison(expected, actual, checker) {
  const lines = folded(diffLines(expected, actual, checker));
  const rows = lines.slice(0, MOST_LINES);
  const left = lines.length - rows.length;
  const table = el(
    "table", { class: "diff" },
    el("caption", {}, "Expected output (−) and output of the program (+)"),
    el("thead", {}, el("tr", {}, ...COLUMNS.map((one) => el("th", { scope: "col" }, one)))),
    el("tbody", {}, ...rows.map(row)),
  );
  const spoken = { role: "region", "aria-label": "Difference to the expected output" };
  const frame = el("div", { class: "scroller", tabindex: "0", ...spoken }, table);
  return el("div", {}, el("h4", {}, "Difference"), frame, left > 0 && hint(`${left} more lines are not shown.`));
}

const COLUMNS = ["Expected line", "Output line", "", "Text"];
const SIGNS = { same: "", missing: "−", extra: "+" };
const SAID = { same: "both", missing: "expected, not written", extra: "written, not expected" };

/** @param {import("./diff.js").Line | {kind: "fold", count: number}} line */
function row(line) {
  if (line.kind === "fold") return el("tr", { class: "fold" }, el("td", { colspan: "4" }, `${line.count} equal lines`));
  return el(
    "tr", { class: line.kind },
    el("td", { class: "at" }, line.expected ?? ""), el("td", { class: "at" }, line.actual ?? ""),
    el("td", { class: "sign", "aria-label": SAID[line.kind] }, SIGNS[line.kind]),
    el("td", { class: "text" }, ...marked(line)),
  );
}

/** @param {import("./diff.js").Line} line */
function marked(line) {
  const text = line.text.slice(0, MOST_LINE);
  const left = line.text.length - MOST_LINE;
  const more = left > 0 ? [el("span", { class: "hint" }, ` … ${left} more characters`)] : [];
  if (line.marks === undefined) return [visible(text), ...more];
  const [from, to] = line.marks;
  const mark = from < to ? [el("mark", {}, visible(text.slice(from, to)))] : [];
  return [visible(text.slice(0, from)), ...mark, visible(text.slice(to)), ...more];
}

/**
 * Long runs of equal lines as one row.
 * @param {import("./diff.js").Line[]} lines
 * @returns {Array<import("./diff.js").Line | {kind: "fold", count: number}>}
 */
function folded(lines) {
  const near = new Set();
  lines.forEach((line, at) => {
    if (line.kind !== "same") for (let k = at - AROUND; k <= at + AROUND; k++) near.add(k);
  });
  const shown = [];
  let hidden = 0;
  lines.forEach((line, at) => {
    if (near.has(at)) {
      if (hidden) shown.push({ kind: /** @type {"fold"} */ ("fold"), count: hidden });
      hidden = 0;
      shown.push(line);
    } else hidden++;
  });
  if (hidden) shown.push({ kind: /** @type {"fold"} */ ("fold"), count: hidden });
  return shown;
}

/**
 * A text that can be folded away.
 * @param {string} title
 * @param {string} text
 * @param {{none: string, open: boolean}} options
 */
export function block(title, text, { none, open }) {
  if (text === "") return hint(`${title}: ${none}.`);
  const left = text.length - MOST_CHARACTERS;
  const spoken = { tabindex: "0", role: "region", "aria-label": title };
  const pre = el("pre", spoken, visible(text.slice(0, MOST_CHARACTERS)));
  const cut = left > 0 && hint(`${left} more characters are not shown.`);
  return el("details", { open }, el("summary", {}, title), pre, cut);
}

/**
 * A stream as text; `odd` when its bytes were not all UTF-8.
 * @param {string} text
 * @param {string} encoding
 */
export function decoded(text, encoding) {
  if (encoding !== "base64") return { text, odd: false };
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const shown = new TextDecoder().decode(bytes);
  return { text: shown, odd: shown.includes("\ufffd") };
}
