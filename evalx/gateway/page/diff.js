// @ts-check
/** Where a program's output leaves the expected one, by lines. */

/**
 * One line of the comparison; numbers are 1-based. `marks` is the part of the text that differs from its counterpart.
 * @typedef {{kind: "same" | "missing" | "extra", expected: number | null, actual: number | null, text: string,
 *   marks?: [number, number]}} Line
 */

/** Comparisons of lines at most; larger differences are paired by position. */
const MOST_WORK = 1_000_000;

/**
 * How a checker sees a line.
 * @type {Record<string, (line: string) => string>}
 */
const SEEN = {
  exact: (line) => line,
  lines: (line) => line.trimEnd(),
  tokens: (line) => line.trim().split(/\s+/).join(" "),
  floats: (line) => line.trim().split(/\s+/).join(" "),
};

/**
 * @param {string} expected
 * @param {string} actual
 * @param {string} [checker]
 * @returns {Line[]}
 */
export function diffLines(expected, actual, checker = "lines") {
  const seen = SEEN[checker] ?? SEEN.lines;
  const before = split(expected, checker), after = split(actual, checker);
  const a = before.map(seen), b = after.map(seen);
  const start = commonStart(a, b);
  const end = commonEnd(a, b, start);
  /** @type {Line[]} */
  const lines = [];
  const same = (/** @type {number} */ i, /** @type {number} */ j) =>
    lines.push({ kind: "same", expected: i + 1, actual: j + 1, text: after[j] });
  for (let i = 0; i < start; i++) same(i, i);
  for (const [i, j] of pairs(a, b, start, a.length - end, b.length - end)) {
    if (i !== null && j !== null) same(i, j);
    else if (i !== null) lines.push({ kind: "missing", expected: i + 1, actual: null, text: before[i] });
    else if (j !== null) lines.push({ kind: "extra", expected: null, actual: j + 1, text: after[j] });
  }
  for (let k = end; k > 0; k--) same(a.length - k, b.length - k);
  return markChanges(lines);
}

/**
 * @param {string} text
 * @param {string} checker
 */
function split(text, checker) {
  const lines = text.split("\n");
  if (checker === "exact") return text === "" ? [] : lines;
  while (lines.length && lines[lines.length - 1].trim() === "") lines.pop();
  return lines;
}

/**
 * @param {string[]} a
 * @param {string[]} b
 */
function commonStart(a, b) {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}

/**
 * @param {string[]} a
 * @param {string[]} b
 * @param {number} start
 */
function commonEnd(a, b, start) {
  let count = 0;
  while (count < Math.min(a.length, b.length) - start && a[a.length - 1 - count] === b[b.length - 1 - count]) count++;
  return count;
}

/**
 * The middle parts by their longest common subsequence: pairs of indices, null where there is no counterpart.
 * @param {string[]} a
 * @param {string[]} b
 * @param {number} start
 * @param {number} endA
 * @param {number} endB
 * @returns {Generator<[number | null, number | null]>}
 */
function* pairs(a, b, start, endA, endB) {
  const n = endA - start, m = endB - start;
  if (n * m > MOST_WORK) {
    yield* byPosition(a, b, start, endA, endB);
    return;
  }
  const width = m + 1;
  const longest = new Uint32Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      longest[i * width + j] = a[start + i] === b[start + j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && a[start + i] === b[start + j]) yield [start + i++, start + j++];
    else if (j >= m || (i < n && longest[(i + 1) * width + j] >= longest[i * width + j + 1])) yield [start + i++, null];
    else yield [null, start + j++];
  }
}

/**
 * @param {string[]} a
 * @param {string[]} b
 * @param {number} start
 * @param {number} endA
 * @param {number} endB
 * @returns {Generator<[number | null, number | null]>}
 */
function* byPosition(a, b, start, endA, endB) {
  for (let k = start; k < Math.max(endA, endB); k++) {
    if (k < endA && k < endB && a[k] === b[k]) yield [k, k];
    else {
      if (k < endA) yield [k, null];
      if (k < endB) yield [null, k];
    }
  }
}

/**
 * Within a run of missing lines and the extra ones after it, the n-th of both belong together.
 * @param {Line[]} lines
 */
function markChanges(lines) {
  for (let at = 0; at < lines.length; at++) {
    if (lines[at].kind === "same") continue;
    let end = at;
    while (end < lines.length && lines[end].kind !== "same") end++;
    const run = lines.slice(at, end);
    const missing = run.filter((one) => one.kind === "missing"), extra = run.filter((one) => one.kind === "extra");
    for (let k = 0; k < Math.min(missing.length, extra.length); k++) markPair(missing[k], extra[k]);
    lines.splice(at, end - at, ...missing, ...extra);
    at = end;
  }
  return lines;
}

/**
 * @param {Line} one
 * @param {Line} other
 */
function markPair(one, other) {
  const a = [...one.text], b = [...other.text];
  const start = commonStart(a, b), end = commonEnd(a, b, start);
  one.marks = [a.slice(0, start).join("").length, a.slice(0, a.length - end).join("").length];
  other.marks = [b.slice(0, start).join("").length, b.slice(0, b.length - end).join("").length];
}
