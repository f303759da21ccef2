/** A document for tests of what draws; import it before any framework. */

import { Window } from "happy-dom";

const window = new Window({ url: "http://localhost/" });
const names = [
  ...[
    "document",
    "navigator",
    "Node",
    "Element",
    "HTMLElement",
    "HTMLIFrameElement",
    "SVGElement",
    "Event",
  ],
  ...["CustomEvent", "Text", "Comment", "DocumentFragment", "ShadowRoot", "MutationObserver"],
  ...["HTMLInputElement", "HTMLMediaElement", "HTMLTemplateElement", "requestAnimationFrame"],
];
Object.assign(globalThis, { window, IS_REACT_ACT_ENVIRONMENT: true });
for (const name of names) {
  const value: unknown = Reflect.get(window, name);
  Object.defineProperty(globalThis, name, { configurable: true, writable: true, value });
}

/** An element of the page's own for each test. */
export function newRoot(): HTMLElement {
  const root = document.createElement("div");
  document.body.append(root);
  return root;
}
