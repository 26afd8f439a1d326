/** One thing at a time, and of those that wait only the newest. */

export class Latest {
  #running = false;
  #next = null;

  /** Run an async task; one that waits is dropped for it. */
  async run(task) {
    this.#next = task;
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#next) {
        const current = this.#next;
        this.#next = null;
        await current();
      }
    } finally {
      this.#running = false;
    }
  }
}
