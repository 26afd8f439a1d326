/** What can be done with the version that a job has made. */

import { address } from "../core/address.js";
import { h } from "../core/dom.js";
import { planeModels, versionsOf } from "../core/models.js";
import { guarded } from "../core/notices.js";
import { oneAtATime } from "../core/timing.js";
import { compareAddress, promote, promotionKind, versionOf } from "./promotion.js";

export class JobActions {
  #job = null;
  #versions = []; // of the job's model

  /** `promoted` is called after a promotion. */
  constructor(promoted) {
    this.promoted = promoted;
    this.element = h("div", { class: "row" });
  }

  /** Show the buttons for a job that has ended; null removes them. */
  async show(job) {
    if (job?.id !== this.#job?.id) this.#versions = [];
    this.#job = job;
    this.#build();
    if (!job?.version) return;
    const versions = await versionsOf(job.model);
    if (job !== this.#job) return;
    this.#versions = versions;
    this.#build();
  }

  #build() {
    const { model, version } = this.#job ?? {};
    const production = versionOf(this.#versions, "production");
    const previous = versionOf(this.#versions, "previous");
    const buttons = [];
    if (this.#versions.some((one) => one.version === version)) {
      const isServing = version === production;
      const wanted = isServing ? previous : version;
      if (wanted) buttons.push(this.#button(promotionKind(wanted, production), wanted));
      if (!isServing && planeModels().some(({ name }) => name === model))
        buttons.push(link(compareAddress(model, production, version), "versions.compare"));
      buttons.push(link(address("versions", model), "versions.all"));
    }
    this.element.replaceChildren(...buttons);
    this.element.hidden = !buttons.length;
  }

  #button(kind, version) {
    const button = h("button", {
      class: `button ${this.#job.promotion === "skipped" ? "main" : ""}`,
      type: "button",
      t: [`promotion.${kind}`, { version }],
    });
    const click = async () => {
      await oneAtATime(button, () => promote(this.#job.model, version));
      await this.show(this.#job);
      this.promoted();
    };
    button.addEventListener("click", guarded(click));
    return button;
  }
}

const link = (href, t) => h("a", { class: "button", href, t });
