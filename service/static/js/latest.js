/** One thing at a time, and of those that wait only the newest. */

export class Latest {
  #running = false;
  #next = null;

  /** Run an async task; one that waits is dropped for it. Never throws: a task tells its errors. */
  async run(task) {
    this.#next = task;
    if (this.#running) return;
    this.#running = true;
    while (this.#next) {
      const current = this.#next;
      this.#next = null;
      await current();
    }
    this.#running = false;
  }

  /** Whether something newer waits, so that what runs is out of date. */
  get isStale() {
    return this.#next !== null;
  }
}
