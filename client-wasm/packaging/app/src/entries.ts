/** Never run: what the other entries of the package declare. */

import { open } from "rejoin";
import { open as openInline } from "rejoin/inline";
import { defineSchema, destroy, open as openSlim, text, type Wasm } from "rejoin/slim";

const schema = defineSchema({ tasks: { title: text() } });

export const same: typeof open = openInline;

export async function declared(wasm: Wasm, module: WebAssembly.Module): Promise<string> {
  const db = await openSlim({ name: "given", schema, wasm });
  await openSlim({ name: "compiled", schema, wasm: module });
  await openSlim({ name: "fetched", schema, wasm: () => fetch("/rejoin_bg.wasm") });
  // @ts-expect-error Nothing says where the WebAssembly is.
  await openSlim({ name: "forgotten", schema });
  // @ts-expect-error Nor here.
  await destroy("forgotten");
  // @ts-expect-error It is in there already.
  await openInline({ name: "twice", schema, wasm });
  return (await db.tasks.first())?.title ?? "";
}
