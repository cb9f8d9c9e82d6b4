// @ts-check
/** The places in the source that compilers and interpreters complain about. */

/** @typedef {{line: number, column: number | null, kind: "error" | "warning", text: string}} Problem */

/** Problems that are listed; a missing brace can cause hundreds. */
const MOST = 20;

/**
 * What GCC and javac wrote, by line of the source.
 * @param {string} output
 * @param {string} source  the file's name
 * @returns {Problem[]}
 */
export function compilerProblems(output, source) {
  const pattern = new RegExp(`^(?:\\S*/)?${escaped(source)}:(\\d+):(?:(\\d+):)? (?:fatal )?(error|warning): (.*)$`);
  const found = [];
  for (const line of output.split("\n")) {
    const match = pattern.exec(line);
    if (match === null) continue;
    const [, number, column, kind, text] = match;
    found.push(problem(number, column, kind === "error" ? "error" : "warning", text));
  }
  return found.slice(0, MOST);
}

/**
 * Where a program in an interpreted language failed: the innermost place in the source.
 * @param {string} stderr
 * @param {string} source
 * @returns {Problem[]}
 */
export function runtimeProblems(stderr, source) {
  const name = escaped(source);
  const lines = stderr.split("\n");
  const frame = new RegExp(`^ *File "(?:[^"]*/)?${name}", line (\\d+)`);
  const innermost = lines.map((line) => frame.exec(line)).filter((one) => one !== null).pop();
  if (innermost) {
    const last = lines.filter((line) => /^\w[\w.]*(: |$)/.test(line)).pop();
    return [problem(innermost[1], undefined, "error", last ?? "ends here")];
  }
  for (const line of lines) {
    const node = new RegExp(`^(?:\\S*/)?${name}:(\\d+)$`).exec(line);
    if (node !== null) {
      return [problem(node[1], undefined, "error", lines.find((one) => /^\w*Error\b/.test(one)) ?? "ends here")];
    }
  }
  return [];
}

/**
 * @param {string} line
 * @param {string | undefined} column
 * @param {"error" | "warning"} kind
 * @param {string} text
 * @returns {Problem}
 */
function problem(line, column, kind, text) {
  return { line: Number(line), column: column === undefined ? null : Number(column), kind, text };
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
