// @ts-check
/** Puts the page together, and keeps what the user would miss after a reload. */

import { Gateway, GatewayError } from "./api.js";
import { byId } from "./dom.js";
import { isExample } from "./examples.js";
import { Form } from "./form.js";
import { remembered, showHistory } from "./history.js";
import { watchLanes } from "./lanes.js";
import { ResultView } from "./result.js";
import { alarm, Runner } from "./run.js";
import * as store from "./store.js";

/** Milliseconds of quiet before a draft is kept; leaving the page keeps it at once. */
const DRAFT_MS = 400;

let draftTimer = 0;
const gateway = new Gateway(store.token);
const form = new Form(() => {
  clearTimeout(draftTimer);
  draftTimer = setTimeout(keepDraft, DRAFT_MS);
});
const runner = new Runner(gateway, new ResultView(byId("result-body")), form, onNews);

function keepDraft() {
  clearTimeout(draftTimer);
  if (form.languages.length) store.keepDraft(form.draft);
}

/**
 * @param {string} id
 * @param {store.Draft} draft
 * @param {any} result
 */
function onNews(id, draft, result) {
  if (result === null) showResult();
  const known = store.visits().find((one) => one.id === id);
  const title = form.languages.find((one) => `${one.name} ${one.version}` === draft.language)?.title ?? draft.language;
  store.keepVisit({ id, at: known?.at ?? Date.now(), title, draft, ...remembered(result) });
  showHistory(open);
  void look();
}

/** Whether what is in the editor can be had again, or may be lost. */
function mayReplace() {
  const { code } = form.draft;
  const again = isExample(code) || store.visits().some((one) => one.draft.code === code);
  return again || confirm("Your program has not been run and would be lost. Replace it?");
}

function showExample() {
  if (!mayReplace()) return;
  form.example();
  keepDraft();
}

/** @param {store.Visit} visit */
function open(visit) {
  if (!mayReplace()) return;
  form.draft = visit.draft;
  keepDraft();
  showResult();
  void runner.show(visit.id, visit.draft);
}

function run() {
  keepDraft();
  void runner.run();
}

/** Where the result is below the program, it is brought to where it is seen. */
function showResult() {
  const result = byId("result");
  if (result.getBoundingClientRect().top < window.innerHeight * 0.8) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  result.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

const look = watchLanes(gateway, (lanes) => form.offerLanes(lanes));

byId("run").addEventListener("click", run);
byId("example").addEventListener("click", showExample);
byId("stop").addEventListener("click", () => runner.stop());
byId("clear-history").addEventListener("click", () => {
  store.forgetVisits();
  showHistory(open);
});
byId("token").value = store.token();
byId("token-form").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  store.keepToken(byId("token").value.trim());
  byId("token-box").open = false;
  byId("token-box").querySelector("summary").focus();
  alarm("");
  void look();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
    event.preventDefault();
    run();
  }
});
addEventListener("pagehide", keepDraft);
addEventListener("storage", () => showHistory(open));

async function begin() {
  try {
    form.offerLanguages(await gateway.languages());
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    alarm(`The languages are not known: ${error.message}. Reload the page.`);
    return;
  }
  const kept = store.draft();
  if (kept === null) form.example();
  else form.draft = kept;
}

showHistory(open);
byId("run").disabled = true;
await begin();
byId("run").disabled = form.languages.length === 0;
document.documentElement.dataset.ready = "true";
