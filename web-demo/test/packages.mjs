/** Records for the catalog: Debian's package index where there is one, else made up, alike in shape. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const MADE_UP = 60_000;
const ENOUGH = 10_000;

/** One object per package; the later of two of one name wins, as it does in an import. */
export async function packages() {
  const stanzas = await index();
  const byName = new Map(stanzas.map((stanza) => [stanza.Package, stanza]));
  return byName.size >= ENOUGH ? [...byName.values()] : madeUp();
}

async function index() {
  try {
    const { stdout } = await promisify(execFile)("apt-cache", ["dumpavail"], {
      maxBuffer: 1 << 30,
    });
    return stdout
      .split(/\n\n+/u)
      .map(parse)
      .filter(({ Package }) => Package);
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
}

/** `Name: value` lines; a line that begins with a space goes on with the value before. */
function parse(stanza) {
  const record = {};
  let name;
  for (const line of stanza.split("\n")) {
    const colon = line.indexOf(":");
    if (line.startsWith(" ") && name !== undefined) record[name] += `\n${line}`;
    else if (colon > 0) record[(name = line.slice(0, colon))] = line.slice(colon + 1).trim();
  }
  return record;
}

const madeUp = () =>
  Array.from({ length: MADE_UP }, (_, number) => ({
    Package: `made-up-${String(number).padStart(5, "0")}`,
    Version: `1.${number % 40}-${number % 7}`,
    Section: ["admin", "libs", "net", "text"][number % 4],
    "Installed-Size": number * 3,
    Maintainer: "Zoë Größer <zoe@example.org>",
    Description: `package number ${number}, für größere Zahlen`,
  }));
