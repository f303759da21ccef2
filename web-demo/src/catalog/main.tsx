import { render } from "preact";
import { keepPage } from "../offline.ts";
import { findServer } from "../server.ts";
import { Log } from "../shell/log.tsx";
import { Failed } from "../shell/masthead.tsx";
import "../styles/base.css";
import "../styles/shell.css";
import "../styles/tasks.css";
import "../styles/catalog.css";
import { App } from "./app.tsx";
import { openCatalog } from "./schema.ts";

declare global {
  interface Window {
    /** For tests and the console. */
    rejoin?: object;
  }
}

keepPage();
const root = document.querySelector("#app");
if (root === null) throw new Error("the page has no #app");
const server = await findServer(new URL(location.href));
try {
  const db = await openCatalog(server);
  const log = new Log();
  log.record("", db);
  window.rejoin = { db };
  render(<App db={db} server={server} log={log} />, root);
} catch (error) {
  render(<Failed error={error} />, root);
}
