// Asks the JSON interface beside the page.

import { known, tell, until } from "./state.js";

const API = "/admin/api/";
export const PATIENCE_MS = 10_000;

export class Refused extends Error {
  constructor(status, message, wait) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

export async function request(path, signal, more = {}) {
  const headers = { authorization: `Bearer ${known.token ?? ""}`, ...more };
  const answer = await fetch(API + path, {
    headers,
    signal,
    cache: "no-store",
    credentials: "omit",
  });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("retry-after")) || undefined;
  throw new Refused(answer.status, problem.error ?? `the server answers ${answer.status}`, wait);
}

export async function ask(path, query = {}, signal = until.session.signal) {
  const search = new URLSearchParams(
    Object.entries(query).filter(([, value]) => value !== undefined && value !== ""),
  );
  const patient = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  const answer = await request(search.size ? `${path}?${search}` : path, patient);
  return answer.json();
}

export const wait = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** What went wrong, for people. */
export function excuse(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return "the server takes too long to answer";
  return "the server cannot be reached";
}

/** Whether the token is good no longer, which whoever locks the page is told. */
export function isLockedBy(error) {
  if (!(error instanceof Refused) || error.status !== 401) return false;
  tell("refused");
  return true;
}
