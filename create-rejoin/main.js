#!/usr/bin/env node
// `npm create rejoin@latest [FOLDER]`: writes an app and says how to start it.

import { relative } from "node:path";
import { parseArgs } from "node:util";
import { create, TEMPLATES } from "./create.js";

const usage = `usage: npm create rejoin@latest [FOLDER] [-- --template ${TEMPLATES.join("|")}]`;

try {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      template: { type: "string", short: "t", default: "vanilla" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
  } else {
    if (positionals.length > 1) throw new Error(usage);
    const folder = await create(positionals[0] ?? "rejoin-app", values.template);
    const path = relative("", folder);
    const steps = [...(path === "" ? [] : [`cd ${path}`]), "npm install", "npm run dev"];
    console.log(`An app is in ${folder}. To start it:\n\n  ${steps.join("\n  ")}\n`);
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
