// One upload as people see it: a line with its name, how far it is, and what can be done.

import { Upload } from "../resumable.js";
import { duration, explain, percent, size } from "./words.js";

/** Milliseconds over which the speed is measured, between two looks, and after which one is taken although nothing has moved. */
const WINDOW = 6000;
const LOOK = 250;
const STILL = 1000;

const DONE = new Set(["finished", "cancelled", "failed"]);

export class Row {
  state = "queued";
  sent = 0;
  stored = 0;
  #measured = [];
  #painted = 0;
  #later;
  #error = null;
  #leave = () => {};

  /** @param {{file: File, name: string, queue: object, changed: Function, removed: Function, endpoint: URL}} given */
  constructor({ file, name, queue, changed, removed, endpoint }) {
    Object.assign(this, { file, name, queue, changed, removed });
    this.total = file.size;
    this.upload = new Upload(file, {
      name,
      endpoint,
      onStateChange: (state) => this.#become(state),
      onProgress: (progress) => this.#progress(progress),
    });
    this.element = element("li");
    this.element.tabIndex = -1;
    this.element.setAttribute("aria-label", name);
    this.bar = element("progress");
    this.bar.max = 100;
    this.bar.setAttribute("aria-label", `Progress of ${name}`);
    this.detail = element("p", "detail");
    this.wrong = element("p", "error");
    this.actions = element("div", "actions");
    // A button of its own, and the first: what is pressed is never another one because the state has just changed.
    this.now = button("Try now", name, () => this.upload.resume());
    this.toggle = button("Pause", name, () => this.#toggle());
    this.end = button("Cancel", name, () => this.#end());
    this.link = element("a", "", "Details");
    this.actions.append(this.now, this.link, this.toggle, this.end);
    this.element.append(element("span", "name", name), this.actions, this.bar, this.detail, this.wrong);
    this.#enter();
    this.paint();
  }

  get done() {
    return DONE.has(this.state);
  }

  /** Whether leaving the page would interrupt it. */
  get busy() {
    return !this.done && this.state !== "paused";
  }

  #enter(first = false) {
    this.#leave = this.queue.add(() => this.#begin(), { first });
  }

  async #begin() {
    this.#error = null;
    if (this.upload.state === "paused") {
      this.upload.resume();
      return;
    }
    try {
      await this.upload.start();
    } catch (error) {
      if (error.name !== "AbortError") this.#error = error;
    }
    this.#leave();
    this.paint();
    this.changed(this, this.#error);
  }

  #become(state) {
    this.state = state;
    this.#measured = [];
    this.paint();
    if (!DONE.has(state)) this.changed(this, null);
  }

  #progress({ stored, sent, total }) {
    this.stored = stored;
    this.sent = sent;
    this.total = total;
    const now = performance.now();
    if (this.state === "uploading" && now - this.#painted < LOOK && sent < total) {
      // It may be the last for long.
      this.#paintIn(LOOK);
      return;
    }
    this.#measured = [...this.#measured.filter(([at]) => now - at < WINDOW), [now, sent]];
    this.paint();
    this.changed(this, null);
  }

  #paintIn(milliseconds) {
    clearTimeout(this.#later);
    this.#later = setTimeout(() => {
      if (this.state !== "uploading") return;
      this.paint();
      this.changed(this, null);
    }, milliseconds);
  }

  /** Bytes a second; 0 while unknown. */
  get speed() {
    const now = performance.now();
    const [first] = this.#measured.filter(([at]) => now - at < WINDOW);
    if (this.state !== "uploading" || !first || now - first[0] < 500) return 0;
    return (1000 * Math.max(0, this.sent - first[1])) / (now - first[0]);
  }

  #toggle() {
    if (this.state === "failed") {
      this.state = "queued";
      this.#enter(true);
    } else if (this.upload.state === "paused") {
      this.state = "queued";
      this.#enter(true);
    } else {
      this.upload.pause();
      this.#leave();
    }
    this.paint();
    this.changed(this, null);
  }

  async #end() {
    if (this.state === "finished" || this.state === "cancelled") {
      this.removed(this);
      return;
    }
    this.#leave();
    try {
      await this.upload.cancel();
    } catch (error) {
      this.#error = error;
      this.paint();
      this.changed(this, error);
      return;
    }
    this.removed(this);
  }

  paint() {
    this.#painted = performance.now();
    if (this.state === "uploading") this.#paintIn(STILL);
    this.element.dataset.state = this.state;
    const part = this.total === 0 ? (this.state === "finished" ? 1 : 0) : this.sent / this.total;
    this.bar.value = 100 * part;
    this.bar.hidden = this.state === "cancelled" || (this.state === "failed" && this.sent === 0);
    setText(this.detail, this.#status());
    setText(this.wrong, this.#error === null ? "" : explain(this.#error));
    this.now.hidden = this.state !== "waiting";
    this.toggle.hidden = this.state === "finished" || this.state === "cancelled" || (this.state === "queued" && this.upload.state === "idle");
    rename(this.toggle, { paused: "Go on", failed: "Try again" }[this.state] ?? "Pause", this.name);
    rename(this.end, this.state === "finished" || this.state === "cancelled" || this.state === "failed" ? "Remove" : "Cancel", this.name);
    this.link.hidden = this.state !== "finished" || this.upload.url === null;
    if (!this.link.hidden) {
      this.link.href = this.upload.url;
      this.link.setAttribute("aria-label", `Details of ${this.name}`);
    }
  }

  #status() {
    const far = `${size(this.sent)} of ${size(this.total)} (${percent(this.sent, this.total)})`;
    const { speed } = this;
    switch (this.state) {
      case "queued":
        return `Waits for its turn · ${size(this.total)}`;
      case "idle":
      case "starting":
        return `Starts · ${size(this.total)}`;
      case "uploading":
        if (this.sent >= this.total) return `${size(this.total)} sent · being stored`;
        return speed > 0 ? `${far} · ${size(speed)}/s · ${duration((this.total - this.sent) / speed)} left` : far;
      case "paused":
        return `Paused · ${far}`;
      case "waiting":
        return navigator.onLine ? `${far} · waits for the service, and tries again by itself` : `${far} · waits for the network`;
      case "finished":
        return `Uploaded · ${size(this.total)}`;
      case "cancelled":
        return "Cancelled";
      default:
        return this.sent > 0 ? `Failed · ${far}` : `Failed · ${size(this.total)}`;
    }
  }
}

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** A button whose name says what it is for: there is one like it in every line. */
export function button(text, what, pressed) {
  const made = element("button");
  made.type = "button";
  rename(made, text, what);
  made.addEventListener("click", pressed);
  return made;
}

function rename(made, text, what) {
  if (made.textContent === text) return;
  made.textContent = text;
  made.setAttribute("aria-label", `${text}: ${what}`);
}

function setText(where, text) {
  if (where.textContent !== text) where.textContent = text;
}
