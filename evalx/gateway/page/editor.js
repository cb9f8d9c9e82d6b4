// @ts-check
/** A plain text area with line numbers, marks on lines, and keys for indenting. */

import { el } from "./dom.js";

const INDENT = "    ";

/** @typedef {import("./problems.js").Problem} Problem */

/** The editor; `onInput` is called after each change by the user. */
export class Editor {
  /**
   * @param {HTMLElement} root
   * @param {() => void} onInput
   */
  constructor(root, onInput) {
    /** @type {HTMLTextAreaElement} */
    this.area = /** @type {any} */ (root.querySelector("textarea"));
    this.gutter = /** @type {HTMLElement} */ (root.querySelector(".gutter"));
    this.lights = /** @type {HTMLElement} */ (root.querySelector(".lights"));
    /** @type {Problem[]} */
    this.problems = [];
    this.text = "";
    // Escape lets the next Tab leave: whoever has no mouse must get out.
    this.leaving = false;
    this.area.addEventListener("input", () => { this.#changed(); onInput(); });
    this.area.addEventListener("scroll", () => this.#scrolled());
    this.area.addEventListener("keydown", (event) => this.#key(event));
    this.area.addEventListener("blur", () => { this.leaving = false; });
    this.#changed();
  }

  get value() {
    return this.area.value;
  }

  set value(text) {
    this.area.value = text;
    this.#changed();
    this.area.scrollTop = this.area.scrollLeft = 0;
  }

  /**
   * Mark lines; an empty list takes all marks away.
   * @param {Problem[]} problems
   */
  mark(problems) {
    this.problems = problems.filter((one) => one.line >= 1 && one.line <= this.#lines());
    if (this.problems.some((one) => one.kind === "error")) this.area.setAttribute("aria-invalid", "true");
    else this.area.removeAttribute("aria-invalid");
    this.#paint();
  }

  /**
   * Put the cursor at a line, 1-based, and show it.
   * @param {number} line
   * @param {number | null} column
   */
  goTo(line, column) {
    const lines = this.area.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    const at = start + Math.min((column ?? 1) - 1, (lines[line - 1] ?? "").length);
    this.area.focus();
    this.area.setSelectionRange(at, at);
    const height = this.area.scrollHeight / Math.max(1, lines.length);
    this.area.scrollTop = Math.max(0, (line - 1) * height - this.area.clientHeight / 2);
  }

  #lines() {
    return this.text.split("\n").length;
  }

  #changed() {
    const before = this.text.split("\n");
    this.text = this.area.value;
    const after = this.text.split("\n");
    this.problems = moved(this.problems, before, after);
    this.#number(after.length);
    this.#paint();
    this.#scrolled();
  }

  /** @param {number} count */
  #number(count) {
    while (this.gutter.childElementCount > count) this.gutter.lastElementChild?.remove();
    const missing = document.createDocumentFragment();
    for (let line = this.gutter.childElementCount + 1; line <= count; line++) missing.append(el("span", {}, line));
    this.gutter.append(missing);
  }

  #paint() {
    for (const one of this.gutter.querySelectorAll("[class]")) one.removeAttribute("class");
    this.lights.replaceChildren();
    for (const problem of this.problems) {
      this.gutter.children[problem.line - 1]?.setAttribute("class", problem.kind);
      const light = el("div", { class: problem.kind });
      light.style.setProperty("--line", String(problem.line - 1));
      this.lights.append(light);
    }
  }

  #scrolled() {
    this.gutter.scrollTop = this.area.scrollTop;
    this.lights.style.transform = `translateY(${-this.area.scrollTop}px)`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      this.leaving = true;
    } else if (event.key === "Tab" && !this.leaving) {
      event.preventDefault();
      if (event.shiftKey) this.#shift(false);
      else if (this.#spansLines()) this.#shift(true);
      else this.#insert(INDENT);
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#insert("\n" + this.#indentOfLine());
    } else if (event.key !== "Tab" && event.key !== "Shift") {
      this.leaving = false;
    }
  }

  #spansLines() {
    return this.area.value.slice(this.area.selectionStart, this.area.selectionEnd).includes("\n");
  }

  #indentOfLine() {
    const before = this.area.value.slice(0, this.area.selectionStart);
    const line = before.slice(before.lastIndexOf("\n") + 1);
    const indent = /^[ \t]*/.exec(line)?.[0] ?? "";
    return /[{:(]\s*$/.test(line) ? indent + INDENT : indent;
  }

  /** @param {boolean} inwards */
  #shift(inwards) {
    const { value, selectionStart, selectionEnd } = this.area;
    const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
    const next = value.indexOf("\n", Math.max(start, selectionEnd - (this.#spansLines() ? 1 : 0)));
    const end = next < 0 ? value.length : next;
    const block = value.slice(start, end);
    const shifted = inwards ? block.replace(/^(?=.)/gm, INDENT) : block.replace(/^(\t| {1,4})/gm, "");
    if (shifted === block) return;
    this.area.setSelectionRange(start, end);
    this.#insert(shifted);
    if (block.includes("\n")) this.area.setSelectionRange(start, start + shifted.length);
  }

  /** @param {string} text */
  #insert(text) {
    // The old command is the only way that keeps the browser's undo.
    if (!document.execCommand("insertText", false, text)) {
      this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
      this.area.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }
}

/**
 * Problems after an edit: those above it stay, those below it move along, those within it are taken away.
 * @param {Problem[]} problems
 * @param {string[]} before
 * @param {string[]} after
 */
export function moved(problems, before, after) {
  if (!problems.length) return problems;
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const kept = problems.filter((one) => one.line <= start || one.line > before.length - end);
  return kept.map((one) => (one.line <= start ? one : { ...one, line: one.line + after.length - before.length }));
}
