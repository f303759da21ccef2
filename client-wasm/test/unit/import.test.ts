import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";

/** The package as apps get it; built by `npm run build`. */
const BUILT = new URL("../../../../client-wasm/dist/index.js", import.meta.url);

test("importing_the_package_touches_no_browser_global", async (context) => {
  if (!existsSync(BUILT)) return context.skip("not built");
  for (const name of ["window", "document", "indexedDB", "WebSocket", "location"]) {
    const known = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get: () => assert.fail(`${name} was touched`),
    });
    context.after(() => {
      if (known === undefined) Reflect.deleteProperty(globalThis, name);
      else Object.defineProperty(globalThis, name, known);
    });
  }
  const rejoin: object = await import(BUILT.href);
  assert.ok("open" in rejoin && "defineSchema" in rejoin && !("default" in rejoin));
});
