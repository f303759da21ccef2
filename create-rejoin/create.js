// Writes an app: the files that all templates share, and those of one of them.

import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const TEMPLATES = ["vanilla", "react"];

const SOURCE = fileURLToPath(new URL("template", import.meta.url));
/** What a folder may hold that an app is written into. */
const HARMLESS = new Set([".git", ".DS_Store"]);

/** Returns where the app is. Overwrites nothing: a folder that holds anything is refused. */
export async function create(folder, template) {
  if (!TEMPLATES.includes(template)) {
    throw new Error(`there is no template ${template}; there are: ${TEMPLATES.join(", ")}`);
  }
  const app = resolve(folder);
  await mkdir(app, { recursive: true });
  const found = (await readdir(app)).filter((name) => !HARMLESS.has(name));
  if (found.length > 0) throw new Error(`${app} is not empty`);
  const layers = ["base", template].map((layer) => join(SOURCE, layer));
  for (const layer of layers) await cp(layer, app, { recursive: true });
  // npm leaves files of this name out of packages.
  await rename(join(app, "gitignore"), join(app, ".gitignore"));
  await writeManifest(app, layers);
  return app;
}

/** One manifest of all layers, named after the folder, with the `rejoin` that this was published with. */
async function writeManifest(app, layers) {
  const { version } = await readJson(new URL("package.json", import.meta.url));
  const [base, more] = await Promise.all(
    layers.map((layer) => readJson(join(layer, "manifest.json"))),
  );
  await rm(join(app, "manifest.json"));
  const manifest = {
    name: packageName(basename(app)),
    ...base,
    dependencies: sorted({ rejoin: `^${version}`, ...more.dependencies }),
    devDependencies: sorted({ ...base.devDependencies, ...more.devDependencies }),
  };
  await writeFile(join(app, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
}

const readJson = async (path) => JSON.parse(await readFile(path, "utf8"));

const sorted = (object) => Object.fromEntries(Object.entries(object).sort());

/** What npm takes for a name. */
function packageName(folder) {
  const name = folder.toLowerCase().replaceAll(/[^a-z0-9-]+/gu, "-");
  return name.replaceAll(/^-+|-+$/gu, "") || "rejoin-app";
}
