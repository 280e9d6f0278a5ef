// Uploads that wait for their turn: so many go on at a time.

export class Queue {
  #most;
  #waiting = [];
  #running = new Set();

  constructor(most) {
    this.#most = most;
  }

  /** Have `begin`, which returns a promise, called when there is room. @returns {() => void} which gives the place up */
  add(begin, { first = false } = {}) {
    const job = { begin };
    if (first) this.#waiting.unshift(job);
    else this.#waiting.push(job);
    this.#next();
    return () => this.#leave(job);
  }

  #leave(job) {
    this.#waiting = this.#waiting.filter((other) => other !== job);
    this.#running.delete(job);
    this.#next();
  }

  #next() {
    while (this.#running.size < this.#most && this.#waiting.length > 0) {
      const job = this.#waiting.shift();
      this.#running.add(job);
      job.begin();
    }
  }
}
