// @ts-check
/** Verdicts, states and numbers in words. */

/** @type {Record<string, {name: string, kind: string, what: string}>} */
const VERDICTS = {
  AC: { name: "Accepted", kind: "good", what: "The output is as expected." },
  OK: { name: "Ran", kind: "plain", what: "It ran to its end; there was nothing to compare." },
  WA: { name: "Wrong answer", kind: "bad", what: "The output differs from the expected one." },
  TLE: { name: "Time limit exceeded", kind: "limit", what: "It ran longer than it may." },
  MLE: { name: "Memory limit exceeded", kind: "limit", what: "It wanted more memory than it may have." },
  OLE: { name: "Too much output", kind: "limit", what: "It wrote more than it may." },
  RTE: { name: "Runtime error", kind: "crash", what: "It ended with an error." },
  CE: { name: "Does not compile", kind: "crash", what: "The compiler refused the program." },
  SK: { name: "Skipped", kind: "quiet", what: "Not run: a test before it failed." },
  JE: { name: "Could not be judged", kind: "quiet", what: "The judge's fault, not the program's. Run it again." },
};
/** @type {Record<number, string>} */
const SIGNALS = { 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 31: "SIGSYS" };

/** @param {string | null | undefined} code */
export function verdict(code) {
  return VERDICTS[code ?? ""] ?? { name: code ?? "None", kind: "quiet", what: "" };
}

/**
 * How a test ended, beside its verdict.
 * @param {{exit_code: number | null, signal: number | null}} test
 */
export function ending(test) {
  if (test.signal !== null) {
    const name = SIGNALS[test.signal];
    return `Ended by signal ${test.signal}${name ? ` (${name})` : ""}`;
  }
  return test.exit_code === null ? "" : `Exit code ${test.exit_code}`;
}

/** @param {number} ms */
export function duration(ms) {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`;
}

/** @param {number} bytes */
export function size(bytes) {
  const mib = bytes / (1024 * 1024);
  return mib >= 100 ? `${Math.round(mib)} MiB` : `${mib.toFixed(1)} MiB`;
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
