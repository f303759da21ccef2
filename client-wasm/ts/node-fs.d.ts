/** The one function of Node.js that `node.ts` calls; its types as a whole would let every file name it. */
declare module "node:fs/promises" {
  export function readFile(path: URL): Promise<Uint8Array<ArrayBuffer>>;
}
