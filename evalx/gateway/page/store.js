// @ts-check
/** What this browser keeps: the draft, the history and the token. A browser that keeps nothing is no error. */

/**
 * @typedef {{id: string, at: number, title: string, verdict: string | null, passed: number, draft: Draft}} Visit
 * @typedef {{language: string, code: string, tests: Array<{stdin: string, expected: string}>,
 *   options: Record<string, any>}} Draft
 */

const DRAFT = "evalx.draft", HISTORY = "evalx.history", TOKEN = "evalx.token";
/** Submissions that are kept, and characters that they may have together: browsers give a page some 5 million. */
const MOST_VISITS = 30, MOST_CHARACTERS = 1_500_000;

/** @returns {Draft | null} */
export function draft() {
  const kept = read(DRAFT);
  return kept && typeof kept.code === "string" && Array.isArray(kept.tests) ? kept : null;
}

/** @param {Draft} value */
export function keepDraft(value) {
  write(DRAFT, value);
}

/** Latest first. @returns {Visit[]} */
export function visits() {
  const kept = read(HISTORY);
  return Array.isArray(kept) ? kept.filter((one) => typeof one?.id === "string" && one.draft) : [];
}

/** Add a submission, or change what is known of it. @param {Visit} visit */
export function keepVisit(visit) {
  // Read again: another tab may have added some.
  const kept = visits();
  const at = kept.findIndex((one) => one.id === visit.id);
  if (at >= 0) kept[at] = visit;
  else kept.unshift(visit);
  kept.length = Math.min(kept.length, MOST_VISITS);
  while (kept.length > 1 && JSON.stringify(kept).length > MOST_CHARACTERS) kept.pop();
  while (kept.length && !write(HISTORY, kept)) kept.pop();
}

export function forgetVisits() {
  remove(HISTORY);
}

/** @returns {string} */
export function token() {
  const kept = read(TOKEN);
  return typeof kept === "string" ? kept : "";
}

/** @param {string} value */
export function keepToken(value) {
  if (value) write(TOKEN, value);
  else remove(TOKEN);
}

/** @param {string} key */
function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {any} value
 */
function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** @param {string} key */
function remove(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing is kept, so there is nothing to remove.
  }
}
