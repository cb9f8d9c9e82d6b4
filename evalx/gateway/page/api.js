// @ts-check
/** The gateway's routes. Addresses are relative to the page, so that a proxy may serve it below a path. */

/** What the gateway refused, or that it could not be asked (`status` 0). */
export class GatewayError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {number | null} [retryAfterS]
   */
  constructor(status, message, retryAfterS = null) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may well succeed in a while. */
  get passing() {
    return this.status === 0 || this.status >= 500;
  }
}

/** Milliseconds before a stream that broke is opened again: the first time, and at most. */
const AGAIN_MS = [500, 8000];

/** Asks the gateway; `token` is called for each request, so that a new one counts at once. */
export class Gateway {
  /** @param {() => string} token */
  constructor(token) {
    this.token = token;
  }

  /** @returns {Promise<Array<{name: string, version: string, title: string, default: boolean, source: string}>>} */
  languages() {
    return this.#json("v1/languages");
  }

  /** @returns {Promise<{waiting: number, lanes: Array<{name: string, waiting: number, oldest_s: number}>}>} */
  queue() {
    return this.#json("v1/queue");
  }

  /**
   * @param {object} submission
   * @param {string} lane
   * @param {AbortSignal} signal
   * @returns {Promise<{id: string, status: string}>}
   */
  submit(submission, lane, signal) {
    const where = lane ? `v1/submissions?priority=${encodeURIComponent(lane)}` : "v1/submissions";
    const headers = { "content-type": "application/json" };
    return this.#json(where, { method: "POST", body: JSON.stringify(submission), headers, signal });
  }

  /**
   * What happens to a submission until its `result`; a stream that breaks is opened again.
   * @param {string} id
   * @param {AbortSignal} signal
   * @param {(error: GatewayError) => void} onBreak
   * @returns {AsyncGenerator<{name: string, data: any}>}
   */
  async *events(id, signal, onBreak) {
    for (let pause = AGAIN_MS[0]; ; pause = Math.min(pause * 2, AGAIN_MS[1])) {
      try {
        const response = await this.#fetch(`v1/submissions/${encodeURIComponent(id)}/events`, { signal });
        for await (const event of readEvents(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
          pause = AGAIN_MS[0];
          yield event;
          if (event.name === "result") return;
        }
      } catch (error) {
        if (signal.aborted) throw error;
        const failure = error instanceof GatewayError ? error : unreachable();
        if (!failure.passing) throw failure;
        onBreak(failure);
      }
      await sleep(pause, signal);
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   */
  async #json(path, options) {
    return (await this.#fetch(path, options)).json();
  }

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   */
  async #fetch(path, options = {}) {
    const headers = new Headers(options.headers);
    const token = this.token();
    if (token) headers.set("authorization", `Bearer ${token}`);
    let response;
    try {
      response = await fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store" });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw unreachable();
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

/**
 * The events of a stream of server-sent events; data is JSON.
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<{name: string, data: any}>}
 */
export async function* readEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      // Only what is new is searched: a result may have megabytes.
      let from = Math.max(0, buffer.length - 1);
      buffer += decoder.decode(value, { stream: true });
      for (let end = buffer.indexOf("\n\n", from); end >= 0; end = buffer.indexOf("\n\n")) {
        const event = parseEvent(buffer.slice(0, end));
        buffer = buffer.slice(end + 2);
        if (event !== null) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** @param {string} block */
function parseEvent(block) {
  let name = "";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { name, data: JSON.parse(data.join("\n")) } : null;
}

/** @param {Response} response */
async function refusal(response) {
  const document = await response.json().catch(() => ({}));
  const answered = `the answer was ${response.status} ${response.statusText}`;
  const text = typeof document.error === "string" ? document.error : answered;
  const after = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new GatewayError(response.status, text, Number.isNaN(after) ? null : after);
}

function unreachable() {
  return new GatewayError(0, "the gateway does not answer");
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}
