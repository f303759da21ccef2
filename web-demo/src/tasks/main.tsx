import { render } from "preact";
import { keepPage } from "../offline.ts";
import { findServer } from "../server.ts";
import "../styles/base.css";
import "../styles/shell.css";
import "../styles/tasks.css";
import { App } from "./app.tsx";

keepPage();
const root = document.querySelector("#app");
if (root === null) throw new Error("the page has no #app");
const server = await findServer(new URL(location.href));
render(<App server={server} />, root);
