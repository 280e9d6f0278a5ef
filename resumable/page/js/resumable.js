/**
 * Uploads that may break off at any byte, from a browser or from Node (18 or later), to a `resumable` service.
 *
 *     import { Upload } from "https://up.example.com/resumable.js";
 *     const result = await new Upload(file).start();
 *
 * The wire: `POST /uploads` makes the upload, `PUT` with Content-Range brings ranges to its URL in any order, `Content-Range:
 * bytes *\/T` asks what is stored. Ranges are `[first, end)` in here, the last byte excluded.
 */

/** @typedef {"idle"|"starting"|"uploading"|"paused"|"waiting"|"finished"|"cancelled"|"failed"} State */

/** Pauses between tries, in milliseconds. What is really waited is between half of that and all of it. */
const RETRY_DELAYS = [500, 1000, 2000, 4000, 8000, 15000, 30000, 30000, 60000, 60000];
/** Milliseconds without a sign of life after which a request is given up. The service may itself wait minutes for its store. */
const SILENCE = 180_000;
/** The most bytes of one request: what a proxy that keeps bodies has to hold. */
const LARGEST = 256 << 20;
/** Milliseconds: a request that was quicker is followed by one of twice the size, one that took longer by one of half. */
const QUICK = 5_000;
const SLOW = 30_000;
/** A `Range` header of so many characters may have been cut off by the service (at 3 KiB). */
const LONG_RANGE = 2_900;
/** How often an upload that the service does not know any more is begun anew. */
const ANEW = 2;
/** Bytes at either end of a file that tell it from another one of its name and size. */
const ENDS = 64 << 10;
const PREFIX = "resumable ";

/** What went wrong, for people (`message`) and programs. */
export class UploadError extends Error {
  /**
   * @param {string} message
   * @param {number} status of the answer; 0 where there was none
   * @param {{status?: number, title?: string, detail?: string, [more: string]: unknown} | null} problem what the service, or the
   *   application behind it, said: problem details (RFC 9457), or `detail` with the text that came in their place
   */
  constructor(message, status = 0, problem = null) {
    super(message);
    this.name = "UploadError";
    this.status = status;
    this.problem = problem;
    /** Milliseconds after which the service wants to be asked again. */
    this.retryAfter = 0;
  }
}

/** The request was ended from here: by `pause` or `cancel`, or because another one of the upload failed. */
class Stopped extends Error {}

/** Where uploads are remembered unless the page says otherwise. What cannot be kept is no reason not to upload. */
const browserStore = {
  get(key) {
    try {
      return globalThis.localStorage?.getItem(key) ?? null;
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      globalThis.localStorage?.setItem(key, value);
    } catch {
      // Full, or forbidden.
    }
  },
  remove(key) {
    try {
      globalThis.localStorage?.removeItem(key);
    } catch {
      // Forbidden: nothing was set either.
    }
  },
};

/**
 * Return the uploads of an endpoint that this browser has begun and not ended, the newest first.
 * @param {string | URL} [endpoint]
 */
export function unfinished(endpoint) {
  const base = rootOf(endpoint);
  const found = [];
  try {
    for (let i = 0; i < localStorage.length; i++) {
      const key = localStorage.key(i);
      const entry = key.startsWith(PREFIX) ? parsed(localStorage.getItem(key)) : null;
      if (entry?.url && entry.endpoint === base) found.push({ key, ...entry });
    }
  } catch {
    return [];
  }
  return found.sort((a, b) => b.begun - a.begun);
}

/** One file on its way. */
export class Upload {
  /** @type {State} */
  state = "idle";
  /** The upload's URL, once it has one: `GET` shows it, `DELETE` cancels it. @type {string | null} */
  url = null;

  #file;
  #options;
  #endpoint;
  #name;
  #key;
  #store;
  #total;
  #delays;
  #connections;
  #chunk = 0;
  /** Bytes that the next request brings. */
  #size = 0;
  /** What is stored, `[first, end)`, ascending. @type {[number, number][]} */
  #stored = [];
  /** Bytes under way, by the request that brings them. */
  #underWay = new Map();
  #tries = 0;
  #best = 0;
  #begunAnew = 0;
  #expires = null;
  #digest = null;
  #stop = new AbortController();
  #wake = () => {};
  #creating = null;
  #promise = null;
  #wanted = "run";

  /**
   * @param {Blob} file
   * @param {object} [options] see resumable.d.ts
   */
  constructor(file, options = {}) {
    if (typeof file?.size !== "number" || typeof file.slice !== "function") throw new TypeError("file has to be a Blob or a File");
    this.#file = file;
    this.#options = options;
    this.#total = file.size;
    this.#endpoint = rootOf(options.endpoint);
    this.#name = options.name ?? file.name;
    if (typeof this.#name !== "string" || this.#name === "") throw new TypeError("options.name is required: the file has none");
    this.#store = options.store ?? browserStore;
    this.#delays = options.retryDelays ?? RETRY_DELAYS;
    this.#connections = Math.max(1, Math.floor(options.connections ?? 1));
    this.#key = `${PREFIX}${JSON.stringify([this.#endpoint, this.#name, file.size, file.lastModified ?? null])}`;
  }

  /** Begin, or go on with what was begun before. @returns {Promise<unknown>} the result, when all of it is stored */
  start() {
    if (this.#promise === null || this.state === "failed" || this.state === "cancelled") {
      this.#wanted = "run";
      this.#tries = this.#best = this.#begunAnew = 0;
      this.#promise = this.#run();
    }
    return this.#promise;
  }

  /** Bring nothing more until `resume`. What is stored stays. */
  pause() {
    if (!this.#active || this.#wanted !== "run") return;
    this.#wanted = "pause";
    this.#interrupt();
    this.#become("paused");
  }

  /** Go on after `pause`; while waiting, try at once. */
  resume() {
    if (this.#wanted === "pause") {
      this.#wanted = "run";
      this.#tries = 0;
      this.#become("starting");
    }
    if (this.#wanted === "run") this.#wake();
  }

  /**
   * End the upload: the service frees what is stored. The promise of `start` rejects with an AbortError.
   * @returns {Promise<void>} fulfilled when the service has done so; rejected with UploadError if it does not
   */
  async cancel() {
    if (this.state === "finished" || this.state === "cancelled") return;
    this.#wanted = "cancel";
    this.#interrupt();
    this.#become("cancelled");
    // Its answer says which upload is to be deleted.
    await this.#creating?.catch(() => {});
    const { url } = this;
    if (url === null) return;
    this.url = null;
    this.#stored = [];
    for (let tries = 0; ; tries++) {
      const { signal } = new AbortController();
      try {
        await this.#ask("DELETE", url, { signal });
        break;
      } catch (error) {
        if ([404, 409, 410].includes(error.status)) break; // it has ended
        if (!passes(error) || tries >= Math.min(4, this.#delays.length)) throw error;
        await pauseOf(Math.max(shortened(this.#delays[tries] ?? 0), error.retryAfter), new Promise(() => {}));
      }
    }
    await this.#unremember(url);
  }

  // What goes on

  get #active() {
    return ["starting", "uploading", "waiting", "paused"].includes(this.state);
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#options.onStateChange?.(state);
  }

  #tell() {
    const stored = sizeOf(this.#stored);
    let sent = stored;
    for (const bytes of this.#underWay.values()) sent += bytes;
    this.#options.onProgress?.({ stored, sent: Math.min(sent, this.#total), total: this.#total });
  }

  #interrupt() {
    this.#stop.abort();
    this.#wake();
  }

  async #run() {
    for (;;) {
      if (this.#wanted === "cancel") throw aborted();
      if (this.#wanted === "pause") {
        await new Promise((wake) => (this.#wake = wake));
        continue;
      }
      this.#stop = new AbortController();
      try {
        this.#become("starting");
        const result = await this.#attempt();
        if (this.#wanted === "cancel") throw aborted();
        await this.#unremember(this.url);
        this.#stored = [[0, this.#total]];
        this.#tell();
        this.#become("finished");
        return result;
      } catch (error) {
        if (this.#wanted === "cancel") throw aborted();
        // Nothing is under way any more: what was sent and is not confirmed will be sent again.
        this.#underWay.clear();
        this.#tell();
        if (this.#wanted === "pause" || error instanceof Stopped) continue;
        const failure = await this.#judge(error);
        if (failure !== null) {
          this.#become("failed");
          throw failure;
        }
      } finally {
        this.#stop.abort();
        this.#underWay.clear();
      }
    }
  }

  /** Return the error if the upload has failed with it; null when it is to be tried again, after having waited. */
  async #judge(error) {
    if (!(error instanceof UploadError)) return error;
    if (this.url !== null && (error.status === 404 || error.status === 410) && this.#begunAnew < ANEW) {
      this.#begunAnew++;
      await this.#forget();
      return null;
    }
    if (error.status === 409) {
      // With other bytes than are stored there it can never be finished. The next start makes a new one.
      await this.#forget();
      return new UploadError(
        `The file is not the one that the upload was begun with, or somebody else is uploading it. ${error.message}`,
        409,
        error.problem,
      );
    }
    if (!passes(error)) return error;
    try {
      await this.#file.slice(0, 1).arrayBuffer();
    } catch {
      return unreadable();
    }
    const stored = sizeOf(this.#stored);
    if (stored > this.#best) [this.#best, this.#tries] = [stored, 0];
    if (this.#tries >= this.#delays.length && online()) return error;
    this.#size = Math.max(this.#chunk, this.#size / 2);
    await this.#wait(Math.max(shortened(this.#delays[this.#tries++] ?? 0), error.retryAfter));
    return null;
  }

  async #wait(milliseconds) {
    this.#become("waiting");
    const woken = new Promise((wake) => (this.#wake = wake));
    await pauseOf(milliseconds, woken);
    if (online() || this.#wanted !== "run") return;
    // The delays are for trouble on the way, not for a device that knows of no network.
    await Promise.race([woken, backOnline()]);
    this.#tries = 0;
  }

  async #forget() {
    const { url } = this;
    this.url = null;
    this.#stored = [];
    this.#best = 0;
    await this.#unremember(url);
  }

  /** Another file of this name and size may have been begun since: that one stays remembered. */
  async #unremember(url) {
    if (parsed(await this.#store.get(this.#key))?.url === url) await this.#store.remove(this.#key);
  }

  /** Bring all that is missing. Returns the result. */
  async #attempt() {
    this.url ??= await this.#recall();
    let result = this.url === null ? await this.#create() : await this.#look();
    while (result === undefined) {
      if (this.#wanted !== "run") throw new Stopped();
      this.#become("uploading");
      const before = sizeOf(this.#stored);
      result = await this.#bring();
      // The last answers may have crossed.
      result ??= await this.#look();
      if (result === undefined && sizeOf(this.#stored) >= this.#total) {
        throw new UploadError("All of the file is stored, but the service has not made the object yet.", 503);
      }
      // Not at once again: each round brings all that is missing.
      if (result === undefined && sizeOf(this.#stored) <= before) {
        throw new UploadError("The service takes bytes and does not keep them.", 503);
      }
    }
    return result;
  }

  /** Return the URL of the upload that was begun with this file before; null if there is none. */
  async #recall() {
    this.#digest ??= await digestOf(this.#file);
    const entry = parsed(await this.#store.get(this.#key));
    return entry?.digest === this.#digest ? (entry.url ?? null) : null;
  }

  async #create() {
    const body = { name: this.#name, length: this.#total };
    if (this.#file.type) body.content_type = this.#file.type;
    const { signal } = new AbortController(); // its answer is waited for, so that no upload is left that nobody knows
    this.#creating = this.#ask("POST", `${this.#endpoint}uploads`, {
      signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    }).then(({ text, header }) => {
      const made = parsed(text);
      const id = made?.id;
      // By the way that has just worked; what the service thinks of its own address may be a proxy's secret.
      if (typeof id === "string") this.url = `${this.#endpoint}uploads/${encodeURIComponent(id)}`;
      else this.url = header("Location") && new URL(header("Location"), this.#endpoint).href;
      if (!this.url) throw new UploadError("The service made an upload and did not say which. Is `endpoint` right?");
      return made;
    });
    const made = await this.#creating.finally(() => (this.#creating = null));
    if (this.#wanted === "cancel") throw new Stopped();
    if (made?.state === "finished") return made;
    this.#stored = [];
    this.#setChunk(made?.chunk_size);
    this.#expires = made?.expires ?? null;
    const remembered = {
      url: this.url,
      endpoint: this.#endpoint,
      name: this.#name,
      size: this.#total,
      lastModified: this.#file.lastModified ?? null,
      digest: this.#digest,
      begun: Date.now(),
      expires: this.#expires,
    };
    await this.#store.set(this.#key, JSON.stringify(remembered));
    this.#tell();
    return undefined;
  }

  #setChunk(bytes) {
    if (!(bytes > 0)) return;
    this.#chunk = Number(bytes);
    this.#size = Math.max(this.#size, this.#chunk);
  }

  /** Ask what is stored. Returns the result if that is all, else undefined. */
  async #look() {
    const answer = await this.#ask("PUT", this.url, { headers: { "Content-Range": `bytes */${this.#total}` } });
    return this.#take(answer);
  }

  /** Take what an answer to a PUT says. Returns the result if the upload is finished, else undefined. */
  async #take({ status, text, header }, { merge = false } = {}) {
    if (status !== 308) return parsed(text) ?? text;
    this.#setChunk(header("Upload-Chunk-Size"));
    let stored = rangesOf(header("Range"));
    if ((header("Range") ?? "").length > LONG_RANGE) {
      const shown = parsed((await this.#ask("GET", this.url)).text);
      stored = (shown?.stored ?? []).map(([first, last]) => [first, last + 1]);
    }
    // Answers to requests that ran side by side may come in another order than they were made in.
    this.#stored = merge ? union([...this.#stored, ...stored]) : union(stored);
    const bytes = sizeOf(this.#stored);
    if (bytes > this.#best) [this.#best, this.#tries] = [bytes, 0];
    this.#tell();
    return undefined;
  }

  /** Bring what is missing on as many connections as there may be. Returns the result, or undefined if no answer had it. */
  async #bring() {
    const holes = holesOf(this.#stored, this.#total);
    const workers = Array.from({ length: this.#connections }, async () => {
      let result;
      for (let span = this.#next(holes); span !== null && result === undefined; span = this.#next(holes)) {
        result = await this.#send(span);
      }
      return result;
    });
    try {
      return (await Promise.all(workers)).find((result) => result !== undefined);
    } catch (error) {
      this.#stop.abort();
      await Promise.allSettled(workers);
      throw error;
    }
  }

  /** Take a range off the holes. It ends at a chunk's edge where it can: that is stored as it is. */
  #next(holes) {
    const hole = holes[0];
    if (hole === undefined) return null;
    const chunk = this.#chunk || 1 << 20;
    const left = sizeOf(holes);
    const share = this.#connections > 1 ? Math.max(chunk, left / this.#connections) : left;
    const most = Math.min(Math.max(this.#size, chunk), share, LARGEST);
    const first = hole[0];
    const edge = Math.floor((first + most) / chunk) * chunk;
    const end = Math.min(hole[1], edge > first ? edge : first + chunk);
    if (end === hole[1]) holes.shift();
    else hole[0] = end;
    return [first, end];
  }

  async #send([first, end]) {
    const span = {};
    const begun = Date.now();
    try {
      const answer = await this.#ask("PUT", this.url, {
        headers: { "Content-Range": `bytes ${first}-${end - 1}/${this.#total}` },
        body: this.#file.slice(first, end),
        onSent: (bytes) => {
          this.#underWay.set(span, Math.min(bytes, end - first));
          this.#tell();
        },
      });
      const took = Date.now() - begun;
      if (took < QUICK) this.#size = Math.min(LARGEST, Math.max(this.#size, end - first) * 2);
      else if (took > SLOW) this.#size = Math.max(this.#chunk, this.#size / 2);
      this.#underWay.delete(span);
      return await this.#take(answer, { merge: true });
    } finally {
      this.#underWay.delete(span);
    }
  }

  /** One request, with the page's headers; after a 401 once more with those that it gives then. */
  async #ask(method, url, { headers = {}, body, onSent, signal = this.#stop.signal } = {}) {
    const { headers: own, withCredentials = false } = this.#options;
    for (let tries = 0; ; tries++) {
      const given = typeof own === "function" ? await own() : own;
      const answer = await request(method, url, {
        headers: { ...plain(given), ...headers },
        body,
        onSent,
        signal,
        withCredentials,
      });
      if ((answer.status >= 200 && answer.status < 300) || answer.status === 308) return answer;
      if (answer.status === 401 && tries === 0 && typeof own === "function") continue;
      throw errorOf(answer);
    }
  }
}

// HTTP

/** Send a request. Rejects with an UploadError of status 0 where no answer came, with Stopped if `signal` says so. */
function request(method, url, options) {
  if (options.signal.aborted) return Promise.reject(new Stopped());
  return typeof XMLHttpRequest === "undefined" ? byFetch(method, url, options) : byXhr(method, url, options);
}

function byXhr(method, url, { headers, body, onSent, signal, withCredentials }) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => xhr.abort(), SILENCE);
    };
    const stop = () => xhr.abort();
    const fail = () => reject(signal.aborted ? new Stopped() : noAnswer());
    xhr.onload = () => resolve({ status: xhr.status, text: xhr.responseText, header: (name) => xhr.getResponseHeader(name) });
    xhr.onerror = xhr.onabort = xhr.ontimeout = fail;
    xhr.onloadend = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    };
    xhr.onprogress = alive;
    if (onSent) {
      xhr.upload.onprogress = ({ loaded }) => {
        alive();
        onSent(loaded);
      };
    }
    signal.addEventListener("abort", stop);
    try {
      xhr.open(method, url);
      xhr.withCredentials = withCredentials;
      for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
      alive();
      xhr.send(body ?? null);
    } catch (error) {
      clearTimeout(timer);
      reject(error);
    }
  });
}

async function byFetch(method, url, { headers, body, onSent, signal, withCredentials }) {
  const ended = new AbortController();
  const stop = () => ended.abort();
  // How far a body is, fetch does not say: only the whole request has a limit here.
  const timer = setTimeout(stop, SILENCE + (body?.size ?? 0) / 10);
  signal.addEventListener("abort", stop);
  try {
    const credentials = withCredentials ? "include" : "same-origin";
    const answer = await fetch(url, { method, headers, body, credentials, signal: ended.signal });
    const text = await answer.text();
    if (body?.size) onSent?.(body.size);
    return { status: answer.status, text, header: (name) => answer.headers.get(name) };
  } catch (error) {
    if (signal.aborted) throw new Stopped();
    throw noAnswer(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

function noAnswer(cause) {
  const error = new UploadError("The service cannot be reached.");
  if (cause) error.cause = cause;
  return error;
}

function errorOf({ status, text, header }) {
  const type = header("Content-Type") ?? "";
  const said = /^application\/([\w.-]+\+)?json\b/i.test(type) ? parsed(text) : null;
  const problem = said !== null && typeof said === "object" ? said : { status, detail: readable(text, type) };
  const error = new UploadError(String(problem.detail || problem.title || `The service answered ${status}.`), status, problem);
  error.retryAfter = retryAfter(header("Retry-After"));
  return error;
}

/** The text of what an application answered, which may be a page for people. */
function readable(text, type) {
  const shown = /html/i.test(type) && typeof DOMParser !== "undefined" ? htmlText(text) : text;
  return shown.trim().slice(0, 2000);
}

function htmlText(html) {
  const page = new DOMParser().parseFromString(html, "text/html"); // runs no script and loads nothing
  for (const hidden of page.querySelectorAll("script, style, head")) hidden.remove();
  return (page.body?.textContent ?? "").replace(/\s*\n\s*/g, "\n");
}

/** Retry-After (RFC 9110, 10.2.3) in milliseconds: seconds, or a date. An hour at most. */
function retryAfter(value) {
  if (!value) return 0;
  const milliseconds = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(milliseconds) ? Math.min(Math.max(milliseconds, 0), 3_600_000) : 0;
}

/** Whether the same may work later. */
function passes({ status }) {
  return status === 0 || status === 408 || status === 416 || status === 425 || status === 429 || (status >= 500 && status !== 501);
}

// Small things

function rootOf(endpoint) {
  const url = new URL(endpoint ?? new URL(".", import.meta.url), globalThis.location?.href);
  url.search = url.hash = "";
  if (!url.pathname.endsWith("/")) url.pathname += "/";
  return url.href;
}

function plain(headers) {
  return headers && typeof headers.entries === "function" ? Object.fromEntries(headers.entries()) : (headers ?? {});
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

function online() {
  return globalThis.navigator?.onLine !== false;
}

function backOnline() {
  return new Promise((resolve) => globalThis.addEventListener("online", resolve, { once: true }));
}

/** Between half of a time and all of it: what failed together does not come back together. */
function shortened(milliseconds) {
  return milliseconds * (0.5 + Math.random() / 2);
}

/** Wait, or until woken; coming online again ends it too. */
async function pauseOf(milliseconds, woken) {
  let timer;
  let back;
  const over = new Promise((resolve) => {
    timer = setTimeout(resolve, milliseconds);
    back = resolve;
    globalThis.addEventListener?.("online", back, { once: true });
  });
  await Promise.race([over, woken]);
  clearTimeout(timer);
  globalThis.removeEventListener?.("online", back);
}

function unreadable() {
  return new UploadError("The file cannot be read any more: it was changed, moved or deleted. Choose it again.");
}

/**
 * A number, as text, for the bytes at both ends of a file: another file most likely has another one. Not by `crypto.subtle`,
 * which pages without TLS do not have. Each half is like FNV-1a (draft-eastlake-fnv), with multipliers of its own.
 */
async function digestOf(file) {
  const ends = file.size <= 2 * ENDS ? [file] : [file.slice(0, ENDS), file.slice(-ENDS)];
  let [one, two] = [0x811c9dc5, 0x41c6ce57];
  try {
    for (const end of ends) {
      for (const byte of new Uint8Array(await end.arrayBuffer())) {
        one = Math.imul(one ^ byte, 0x01000193);
        two = Math.imul(two ^ byte, 0x5f356495);
      }
    }
  } catch {
    throw unreadable();
  }
  return [one, two].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}

function aborted() {
  return new DOMException("The upload was cancelled.", "AbortError");
}

function rangesOf(header) {
  const found = (header ?? "").matchAll(/(\d+)-(\d+)/g);
  return Array.from(found, ([, first, last]) => [Number(first), Number(last) + 1]);
}

function sizeOf(ranges) {
  return ranges.reduce((sum, [first, end]) => sum + end - first, 0);
}

function union(ranges) {
  const merged = [];
  for (const [first, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && first <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([first, end]);
  }
  return merged;
}

function holesOf(stored, total) {
  const holes = [];
  let from = 0;
  for (const [first, end] of stored) {
    if (first > from) holes.push([from, first]);
    from = end;
  }
  if (from < total) holes.push([from, total]);
  return holes;
}
