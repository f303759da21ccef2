/** The script of a worker in which one database runs; started by `remote.ts`. */

import { url } from "../pkg/rejoin_url.js";
import { loadEngine } from "./engine.js";
import { isTrap } from "./errors.js";
import { Host } from "./host.js";
import type { Port } from "./wire.js";

new Host(globalThis as unknown as Port, {
  load: () => loadEngine(url),
  lend: (stage) => void Object.assign(globalThis, { rejoinStage: stage }),
  live: (name) =>
    new Promise((resolve) => {
      const locks: LockManager | undefined = navigator.locks;
      if (locks === undefined) return resolve(false);
      const held = (): Promise<never> => {
        resolve(true);
        return new Promise(() => undefined);
      };
      locks.request(name, held).catch(() => resolve(false));
    }),
});

// The page hears of errors that nobody caught, but not of rejections: a trap in a task may be one.
globalThis.addEventListener("unhandledrejection", ({ reason }) => {
  if (isTrap(reason)) throw reason;
});
