// What the page knows, and who hears of it. It has no state of its own but the token, which stays in this tab.

export const TOKEN = "rejoin-admin-token";

export const known = {
  token: sessionStorage.getItem(TOKEN),
  overview: undefined,
  samples: [],
  events: [],
  lastEvent: undefined,
  missed: 0,
};

/** What ends what was begun: when the token is put away, and when another view comes. */
export const until = { session: new AbortController(), view: new AbortController() };
/** Told when something came. */
export const heard = new EventTarget();
export const tell = (name) => heard.dispatchEvent(new Event(name));
