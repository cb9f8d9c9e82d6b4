// @ts-check
/** One run at a time: submits, follows the events, and says in words how far it is. */

import { GatewayError } from "./api.js";
import { decoded } from "./comparison.js";
import { byId } from "./dom.js";
import { submission } from "./form.js";
import { compilerProblems, runtimeProblems } from "./problems.js";
import { headline } from "./result.js";
import { counted } from "./words.js";

/** @typedef {import("./store.js").Draft} Draft */

/** Follows one submission; the next run ends the one before. */
export class Runner {
  /**
   * @param {import("./api.js").Gateway} gateway
   * @param {import("./result.js").ResultView} view
   * @param {import("./form.js").Form} form
   * @param {(id: string, draft: Draft, result: any) => void} onNews  called when it was accepted, and with its result
   */
  constructor(gateway, view, form, onNews) {
    this.gateway = gateway;
    this.view = view;
    this.form = form;
    this.onNews = onNews;
    this.stopped = new AbortController();
    this.countdown = 0;
  }

  /** Submit what is in the form, and follow it. */
  run() {
    const draft = this.form.draft;
    return this.#alone(draft, async (signal) => {
      say("Sending…");
      const lane = draft.options.lane;
      const { id } = await this.gateway.submit(submission(draft), lane, signal);
      this.onNews(id, draft, null);
      await this.#follow(id, draft, signal);
    });
  }

  /**
   * Show a submission of the past, or follow it if it is not finished.
   * @param {string} id
   * @param {Draft} draft
   */
  show(id, draft) {
    return this.#alone(draft, (signal) => this.#follow(id, draft, signal));
  }

  /** Wait no longer. */
  stop() {
    this.stopped.abort();
    this.view.stop();
    busy(false);
    say("Not waited for any longer. The history asks for the result again.");
  }

  /**
   * @param {Draft} draft
   * @param {(signal: AbortSignal) => Promise<void>} work
   */
  async #alone(draft, work) {
    this.stopped.abort();
    const { signal } = (this.stopped = new AbortController());
    clearInterval(this.countdown);
    alarm("");
    busy(true);
    this.form.showProblems([]);
    this.view.begin({ tests: draft.tests, checker: draft.options.checker || "lines" });
    try {
      await work(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.view.idle();
      say("");
      this.#explain(error);
    }
    if (!signal.aborted) busy(false);
  }

  /**
   * @param {string} id
   * @param {Draft} draft
   * @param {AbortSignal} signal
   */
  async #follow(id, draft, signal) {
    const lost = (/** @type {GatewayError} */ error) => say(`${sentence(error.message)} Trying again…`);
    for await (const { name, data } of this.gateway.events(id, signal, lost)) {
      if (name === "status") say(data.status === "queued" ? "Waiting for a worker…" : "Running…");
      if (name === "test") {
        this.view.test(data);
        say(`Running: ${this.view.ended} of ${counted(draft.tests.length, "test")} done.`);
      }
      if (name === "result") this.#finish(id, draft, data);
    }
  }

  /**
   * @param {string} id
   * @param {Draft} draft
   * @param {any} result
   */
  #finish(id, draft, result) {
    this.view.finish(result);
    say(`${headline(result)[1]}.`);
    this.form.showProblems(problems(result, this.form.chosen.source));
    this.onNews(id, draft, result);
  }

  /** @param {unknown} error */
  #explain(error) {
    if (!(error instanceof GatewayError)) {
      alarm(`This page has failed: ${error}. Reload it.`);
      throw error;
    }
    const text = sentence(error.message);
    if (error.status === 401) {
      const wrong = this.gateway.token() ? "The gateway does not know this token." : "This gateway needs a token.";
      alarm(`${wrong} Give it under Token, then run again.`);
      byId("token-box").open = true;
      byId("token").focus();
    } else if (error.status === 429) {
      this.#countDown(text, error.retryAfterS ?? 5);
    } else if (error.passing) {
      alarm(`${text} Nothing is lost: your program stays here. Try again in a moment.`);
    } else {
      alarm(text);
    }
  }

  /**
   * @param {string} text
   * @param {number} seconds
   */
  #countDown(text, seconds) {
    const until = Date.now() + seconds * 1000;
    alarm(`${text} Nothing was accepted.`);
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left <= 0) clearInterval(this.countdown);
      say(left > 0 ? `Run again in ${counted(left, "second")}.` : "You can run it again now.");
    };
    this.countdown = setInterval(tick, 1000);
    tick();
  }
}

/**
 * @param {any} result
 * @param {string} source
 */
function problems(result, source) {
  if (result.compile?.output) return compilerProblems(result.compile.output, source);
  const crashed = result.tests.find((/** @type {any} */ one) => one.verdict === "RTE" && one.stderr);
  return crashed ? runtimeProblems(decoded(crashed.stderr, crashed.encoding).text, source) : [];
}

/** @param {string} text */
export function say(text) {
  const status = byId("status");
  if (status.textContent !== text) status.textContent = text;
}

/** @param {string} text */
export function alarm(text) {
  const alert = byId("alert");
  alert.textContent = text;
  alert.hidden = text === "";
}

/** @param {boolean} is */
function busy(is) {
  byId("stop").hidden = !is;
  byId("result").setAttribute("aria-busy", String(is));
}

/** @param {string} text */
function sentence(text) {
  // The name of a field at the beginning stays as it is.
  const begun = text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase());
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
