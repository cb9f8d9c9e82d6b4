// @ts-check
/** What the user has typed and chosen: to and from a draft, and as a submission. */

import { byId, el, visible } from "./dom.js";
import { Editor } from "./editor.js";
import { isExample, program, TESTS } from "./examples.js";
import { Tests } from "./tests.js";

/** @typedef {import("./store.js").Draft} Draft */
/** @typedef {{name: string, version: string, title: string, default: boolean, source: string}} Language */

/** The language that a first visit begins with, if it is installed. */
const FIRST = "cpp";
const TEXTS = ["cpu", "memory", "checker", "lane"], TICKS = ["stop-early", "fresh"];

/** The fields of the page; `onChange` is called when any of them has changed. */
export class Form {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.editor = new Editor(byId("editor"), onChange);
    this.tests = new Tests(byId("tests"), byId("add-test"), onChange);
    this.language = byId("language");
    /** @type {Language[]} */
    this.languages = [];
    this.wantedLane = "";
    this.language.addEventListener("change", () => {
      if (isExample(this.editor.value)) this.editor.value = program(this.chosen.name);
      this.showProblems([]);
      onChange();
    });
    for (const id of [...TEXTS, ...TICKS]) byId(id).addEventListener("change", onChange);
  }

  /** @returns {Language} */
  get chosen() {
    const [name = "", version = ""] = this.language.value.split(" ");
    return this.languages.find((one) => one.name === name && one.version === version)
      ?? { name, version, title: name, default: false, source: "" };
  }

  /** @param {Language[]} languages */
  offerLanguages(languages) {
    this.languages = languages;
    const options = languages.map((one) => el("option", { value: `${one.name} ${one.version}` }, one.title));
    this.language.replaceChildren(...options);
    const usual = languages.filter((one) => one.default);
    const first = usual.find((one) => one.name === FIRST) ?? usual[0] ?? languages[0];
    if (first) this.language.value = `${first.name} ${first.version}`;
  }

  /** @param {string[]} lanes */
  offerLanes(lanes) {
    const select = byId("lane");
    const known = [...select.options].map((/** @type {HTMLOptionElement} */ one) => one.value);
    if (lanes.join() === known.join()) return;
    const before = this.wantedLane || select.value;
    select.replaceChildren(...lanes.map((name) => el("option", { value: name }, name)));
    select.value = lanes.includes(before) ? before : lanes.includes("normal") ? "normal" : lanes.at(-1);
    this.wantedLane = "";
  }

  example() {
    this.editor.value = program(this.chosen.name);
    this.showProblems([]);
    this.tests.value = TESTS;
  }

  /**
   * Mark and list what is wrong where; an empty list takes all away.
   * @param {import("./problems.js").Problem[]} problems
   */
  showProblems(problems) {
    this.editor.mark(problems);
    const list = byId("problems");
    list.hidden = problems.length === 0;
    list.replaceChildren(...problems.map((one) => el("li", {}, el(
      "button", { type: "button", class: one.kind, on: { click: () => this.editor.goTo(one.line, one.column) } },
      el("strong", {}, `Line ${one.line}`), ` ${one.kind}: ${visible(one.text)}`,
    ))));
  }

  /** @returns {Draft} */
  get draft() {
    /** @type {Record<string, any>} */
    const options = {};
    for (const id of TEXTS) options[id] = byId(id).value;
    for (const id of TICKS) options[id] = byId(id).checked;
    return { language: this.language.value, code: this.editor.value, tests: this.tests.value, options };
  }

  set draft(draft) {
    this.language.value = draft.language;
    if (this.language.selectedIndex < 0) this.language.selectedIndex = 0;
    this.editor.value = draft.code;
    this.showProblems([]);
    this.tests.value = draft.tests.map(({ stdin, expected }) => ({ stdin: String(stdin), expected: String(expected) }));
    const options = draft.options ?? {};
    for (const id of TEXTS) if (typeof options[id] === "string" && id !== "lane") byId(id).value = options[id];
    for (const id of TICKS) byId(id).checked = options[id] === true;
    if (byId("checker").selectedIndex < 0) byId("checker").selectedIndex = 0;
    this.wantedLane = typeof options.lane === "string" ? options.lane : "";
    if (this.wantedLane && byId("lane").options.length) byId("lane").value = this.wantedLane;
  }
}

/**
 * A draft as the body of `POST /v1/submissions`. What was left empty is left to the gateway.
 * @param {Draft} draft
 */
export function submission(draft) {
  const [language, version] = draft.language.split(" ");
  const { cpu, memory, checker } = draft.options;
  /** @type {Record<string, number>} */
  const limits = {};
  if (cpu) limits.cpu_time_ms = Math.round(Number(cpu) * 1000);
  if (memory) limits.memory_bytes = Math.round(Number(memory) * 1024 * 1024);
  return {
    language, version,
    code: draft.code,
    tests: draft.tests.map(({ stdin, expected }) => ({ stdin, expected_output: expected === "" ? null : expected })),
    limits,
    checker: { kind: checker || "lines" },
    stop_on_failure: draft.options["stop-early"] === true,
    cache: draft.options.fresh ? "refresh" : "use",
  };
}
