// Tiny Dancer's router, kept on the version that models/current points to.
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import tinyDancer from "@ruvector/tiny-dancer";
import { readCurrent, verify, VersionError } from "./version.js";

export class Follower {
  /** The router; null until a version was published. */
  router = null;
  /** What it serves, e.g. "v1763838000". */
  version = null;
  /** Why it does not serve what `current` points to; null if it does. */
  failure = null;

  #modelsDir;
  #options;
  #pollMs;
  #log;
  #folder;
  #link; // what the router reads through: it only ever leads to a version that verified
  #serving = null;
  #refused = null;
  #watcher = null;
  #timer = null;
  #looking = null;
  #again = false;
  #swaps = 0; // odd while one is under way
  #closed = false;

  /**
   * @param {string} modelsDir
   * @param {object} options
   * @param {object} [options.router] options of Tiny Dancer's Router, e.g. confidenceThreshold
   * @param {number} [options.pollMs] events can be lost, and some file systems have none: look anyway, this often
   * @param {(line: string) => void} [options.log]
   */
  constructor(modelsDir, { router = {}, pollMs = 1000, log = console.error } = {}) {
    this.#modelsDir = modelsDir;
    this.#options = router;
    this.#pollMs = pollMs;
    this.#log = log;
    this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), "node-router-"));
    this.#link = path.join(this.#folder, "model.safetensors");
  }

  /** Load what is current now, and follow it from here on. */
  async start() {
    this.#watch();
    await this.look();
    this.#timer = setInterval(() => {
      this.#watch();
      this.look();
    }, this.#pollMs);
  }

  async close() {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#watcher?.close();
    await this.#looking;
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }

  /**
   * Tiny Dancer's answer, with the version that gave it. Null until a version was published.
   * @param {object} request of Tiny Dancer's Router.route
   */
  async route(request) {
    while (this.router !== null) {
      const { version } = this;
      const swaps = this.#swaps;
      const answer = await this.router.route(request);
      if (swaps === this.#swaps && swaps % 2 === 0) return { version, ...answer };
      await this.#looking; // a swap came between: ask again, so that the version named is the one that answered
    }
    return null;
  }

  /** Look at `current` now. One look at a time; asked again meanwhile, it looks once more. Never throws. */
  look() {
    this.#again = true;
    this.#looking ??= this.#lookUntilSettled().finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #lookUntilSettled() {
    while (this.#again && !this.#closed) {
      this.#again = false;
      await this.#lookOnce();
    }
  }

  async #lookOnce() {
    let target = null;
    try {
      target = await readCurrent(this.#modelsDir);
      if (target === null || target === this.#refused) return;
      if (target === this.#serving) {
        this.failure = null;
        return;
      }
      await this.#serve(target, await verify(this.#modelsDir, target));
    } catch (error) {
      // `current` may have moved on and the version be gone: what it points to now counts.
      if (target !== null && (await readCurrent(this.#modelsDir).catch(() => null)) !== target) {
        this.#again = true;
        return;
      }
      // What does not verify is not tried again; what could not be read just now is, at the next look.
      if (error instanceof VersionError) this.#refused = target;
      if (error.message !== this.failure) this.#log(`${this.version ?? "no version"} keeps serving: ${error.message}`);
      this.failure = error.message;
    }
  }

  async #serve(target, file) {
    const before = this.router === null ? null : fs.readlinkSync(this.#link);
    this.#point(file);
    this.#swaps += 1;
    try {
      if (this.router === null) this.router = new tinyDancer.Router({ modelPath: this.#link, ...this.#options });
      else await this.router.reloadModel();
      this.version = path.basename(target);
    } catch (error) {
      if (before !== null) this.#point(before);
      throw new VersionError(`${target}: Tiny Dancer refuses it: ${error.message}`);
    } finally {
      this.#swaps += 1;
    }
    this.#serving = target;
    this.#refused = null;
    this.failure = null;
    this.#log(`serving ${this.version}`);
  }

  #point(file) {
    fs.rmSync(`${this.#link}.next`, { force: true });
    fs.symlinkSync(file, `${this.#link}.next`);
    fs.renameSync(`${this.#link}.next`, this.#link);
  }

  /** Watch the folder, not the link: a link is replaced, and a watch on it would stay with the old one. */
  #watch() {
    if (this.#watcher !== null) return;
    try {
      this.#watcher = fs.watch(this.#modelsDir, (event, name) => {
        if (name === null || name === "current") this.look();
      });
      this.#watcher.on("error", () => {
        this.#watcher?.close();
        this.#watcher = null;
      });
    } catch {
      this.#watcher = null; // not there yet, or no watches left: the timer looks, and tries again
    }
  }
}
