// @ts-check
/** The tests in rows. */

import { el } from "./dom.js";

/** @typedef {{stdin: string, expected: string}} Test */

/** The rows; there is always one. */
export class Tests {
  /**
   * @param {HTMLOListElement} list
   * @param {HTMLButtonElement} add
   * @param {() => void} onInput
   */
  constructor(list, add, onInput) {
    this.list = list;
    this.onInput = onInput;
    add.addEventListener("click", () => {
      this.#append({ stdin: "", expected: "" });
      this.#name();
      this.list.lastElementChild?.querySelector("textarea")?.focus();
      onInput();
    });
    list.addEventListener("input", onInput);
    this.value = [];
  }

  /** @returns {Test[]} */
  get value() {
    return [...this.list.children].map((row) => {
      const [stdin, expected] = row.querySelectorAll("textarea");
      return { stdin: stdin.value, expected: expected.value };
    });
  }

  set value(tests) {
    this.list.replaceChildren();
    for (const test of tests.length ? tests : [{ stdin: "", expected: "" }]) this.#append(test);
    this.#name();
  }

  /** @param {Test} test */
  #append(test) {
    const row = el(
      "li", {},
      el("span", { class: "number", "aria-hidden": "true" }),
      area(test.stdin), area(test.expected),
      el("button", { type: "button", class: "quiet remove", on: { click: () => this.#remove(row) } }, "×"),
    );
    this.list.append(row);
  }

  /** @param {HTMLElement} row */
  #remove(row) {
    const near = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    if (near === null) this.#append({ stdin: "", expected: "" });
    this.#name();
    (near ?? this.list.firstElementChild)?.querySelector("textarea")?.focus();
    this.onInput();
  }

  #name() {
    [...this.list.children].forEach((row, index) => {
      const [stdin, expected] = row.querySelectorAll("textarea");
      stdin.setAttribute("aria-label", `Test ${index + 1}, input`);
      expected.setAttribute("aria-label", `Test ${index + 1}, expected output`);
      row.querySelector(".number")?.replaceChildren(String(index + 1));
      row.querySelector("button")?.setAttribute("aria-label", `Remove test ${index + 1}`);
    });
  }
}

/** @param {string} text */
function area(text) {
  const rows = Math.min(6, Math.max(2, text.split("\n").length));
  const plain = { spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off" };
  const node = el("textarea", { rows, ...plain });
  node.value = text;
  return node;
}
