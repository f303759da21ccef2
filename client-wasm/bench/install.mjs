// The peers, installed beside the bench when they are missing or older than the lock.

import { execFileSync } from "node:child_process";
import { existsSync, statSync, utimesSync } from "node:fs";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
const LOCK = `${FOLDER}package-lock.json`;
/** npm writes this at the end of an installation. */
const DONE = `${FOLDER}node_modules/.package-lock.json`;

/** Runs `npm ci` at need; what npm says goes to stderr. */
export function install() {
  if (existsSync(DONE) && statSync(DONE).mtimeMs >= statSync(LOCK).mtimeMs) return;
  // npm tells its scripts where they run: this runs elsewhere.
  const ours = /^(INIT_CWD$|npm_(package|lifecycle|config_local))/u;
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)));
  // RxDB brings along a checker of schemas for later releases of Node.js, which nothing here loads.
  const command = ["ci", "--prefer-offline", "--engine-strict=false", "--loglevel=error"];
  execFileSync("npm", command, { cwd: FOLDER, env, stdio: ["ignore", 2, 2] });
  const now = new Date();
  utimesSync(DONE, now, now);
}
