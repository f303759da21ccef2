// Elements. Text reaches the page by textContent alone: names are whatever clients have chosen.

const SVG = "http://www.w3.org/2000/svg";

export const main = document.getElementById("main");

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(3).filter((child) => child !== undefined && child !== null && child !== false),
  );
  return element;
}

/** An element; children are elements or text. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const s = (tag, props, ...children) =>
  fill(document.createElementNS(SVG, tag), props, children);

/** What cannot be seen in a text is spelt out. */
export const plain = (text) =>
  String(text).replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu,
    (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );

/** A name that somebody has chosen: it turns no text around it. */
export const name = (text, props) => h("bdi", props, plain(text));

export const short = (id) => h("span", { class: "mono", title: id }, `${id.slice(0, 8)}…`);
export const badge = (text, level) => h("span", { class: "badge", "data-level": level }, text);

/** Puts children in the place of those before; the focus stays where it was, by `data-key`. */
export function replace(parent, ...children) {
  const key = parent.contains(document.activeElement)
    ? document.activeElement.getAttribute("data-key")
    : null;
  parent.replaceChildren(
    ...children.flat(3).filter((child) => child !== undefined && child !== false),
  );
  if (key === null) return;
  for (const found of parent.querySelectorAll("[data-key]")) {
    if (found.getAttribute("data-key") === key) found.focus({ preventScroll: true });
  }
}
