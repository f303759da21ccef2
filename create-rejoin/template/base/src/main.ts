import { show } from "./app";
import { openDatabase } from "./database";
import "./style.css";

const element = document.querySelector<HTMLElement>("#app")!;

openDatabase().then(
  (db) => show(db, element),
  (error: unknown) => {
    element.textContent = `The tasks cannot be opened: ${String(error)}`;
  },
);
