// The examples of the README that are about frameworks, and about who is here: what they say of the package is true of its types,
// and the components compile.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { compile } from "svelte/compiler";
import { compileScript, compileTemplate, parse } from "vue/compiler-sfc";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const FOLDER = join(PACKAGE, "../test-artifacts/client-wasm/examples");
const require = createRequire(import.meta.url);

/** What the examples take as given: the app's database. */
const GIVEN = `
import { bool, defineSchema, number, open, text, counter } from "rejoin";
import { yjsFields } from "rejoin/yjs";
export const schema = defineSchema({
  lists: { name: text() },
  tasks: { title: text(), done: bool().default(false), list: text().default(""), votes: counter(), createdAt: number().default(0) },
  notes: { title: text() },
  "texts/*": yjsFields,
});
export const db = await open({ name: "examples", schema });
`;

/** The examples below a heading of the README, by language. */
function examples(readme, heading) {
  const section = readme.split(/^### /mu).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  const [upToNext = ""] = section.split(/^## /mu);
  return [...upToNext.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gmu)].map(([, language, code]) => ({
    language,
    code,
  }));
}

let readme;
before(async () => {
  readme = await readFile(join(PACKAGE, "README.md"), "utf8");
  await rm(FOLDER, { recursive: true, force: true });
  await mkdir(FOLDER, { recursive: true });
  await writeFile(join(FOLDER, "db.ts"), GIVEN);
});

async function typecheck(name, code, options = {}) {
  await writeFile(join(FOLDER, name), code);
  const config = {
    extends: "../../../client-wasm/tsconfig.json",
    compilerOptions: {
      ...{ noEmit: true, declaration: false, isolatedDeclarations: false, rootDir: "../../.." },
      ...{ noUnusedLocals: false, verbatimModuleSyntax: false, allowImportingTsExtensions: true },
      ...{ module: "esnext", moduleResolution: "bundler" },
      paths: {
        rejoin: ["../../../client-wasm/ts/index.ts"],
        "rejoin/*": ["../../../client-wasm/ts/adapters/*.ts"],
      },
      ...options,
    },
    include: [name],
  };
  const file = join(FOLDER, `${name}.json`);
  await writeFile(file, JSON.stringify(config));
  const tsc = join(dirname(require.resolve("typescript/package.json")), "bin/tsc");
  try {
    await promisify(execFile)(process.execPath, [tsc, "-p", file]);
  } catch (error) {
    assert.fail(`${name}: ${error.stdout}${error.stderr}`);
  }
}

for (const [heading, name, options] of [
  ["React", "react.tsx", { jsx: "react-jsx" }],
  ["Solid", "solid.tsx", { jsx: "preserve", jsxImportSource: "solid-js" }],
  ["TanStack DB", "tanstack-db.ts", {}],
  ["Rich text with Yjs", "yjs.ts", {}],
  ["Who is here", "presence.ts", {}],
]) {
  test(`the examples for ${heading} compile`, async () => {
    const found = examples(readme, heading);
    assert.ok(found.length > 0);
    for (const [at, { code }] of found.entries()) await typecheck(`${at}-${name}`, code, options);
  });
}

test("the examples for Vue compile", async () => {
  const found = examples(readme, "Vue");
  assert.ok(found.length > 0);
  for (const [at, { code }] of found.entries()) {
    const { descriptor, errors } = parse(code);
    assert.deepEqual(errors, []);
    const { content, bindings } = compileScript(descriptor, { id: "example" });
    const source = descriptor.template.content;
    const options = { bindingMetadata: bindings };
    const template = compileTemplate({
      id: "example",
      filename: "e.vue",
      source,
      compilerOptions: options,
    });
    assert.deepEqual(template.errors, []);
    assert.ok(content.length > 0);
    await typecheck(`${at}-vue.ts`, descriptor.scriptSetup.content);
  }
});

test("the examples for Svelte compile", async () => {
  const found = examples(readme, "Svelte");
  assert.ok(found.length > 0);
  for (const [at, { code }] of found.entries()) {
    const { warnings } = compile(code, { generate: "client", filename: "Example.svelte" });
    assert.deepEqual(warnings, []);
    const [, script] = /<script lang="ts">([\s\S]*?)<\/script>/u.exec(code);
    const runes = "declare function $props(): { list: string };\n";
    await typecheck(`${at}-svelte.ts`, `${runes}${script}`);
  }
});
