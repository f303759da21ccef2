// What comes by itself: overview and rates again and again, and the tail of events.

import { ask, excuse, isLockedBy, request, wait } from "./asking.js";
import { h } from "./elements.js";
import { known, tell } from "./state.js";

export const POLL_MS = 2_000;
const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000];
const EVENTS_SHOWN = 200;
const SAMPLES_KEPT = 300;

export function say(state, text) {
  const line = document.getElementById("line");
  if (line.dataset.state === state && line.textContent === text) return;
  line.dataset.state = state;
  line.replaceChildren(h("span", null, text));
}

/** Overview and rates, again and again. */
export async function poll(signal) {
  let failed = 0;
  while (!signal.aborted) {
    try {
      const after = known.samples.at(-1)?.number ?? 0;
      const [overview, rates] = await Promise.all([
        ask("overview", {}, signal),
        ask("rates", { after }, signal),
      ]);
      const again = known.overview && known.overview.started !== overview.started;
      known.overview = overview;
      known.overviewAt = Date.now();
      known.every = rates.every;
      // Another run counts anew: all of it comes with the next answer.
      known.samples = again ? [] : [...known.samples, ...rates.samples].slice(-SAMPLES_KEPT);
      if (failed > 0) tell("back");
      failed = 0;
      say("live", "live");
      tell("overview");
    } catch (error) {
      if (signal.aborted || isLockedBy(error)) return;
      failed += 1;
      say("lost", `${excuse(error)}, trying again`);
      tell("lost");
    }
    const rest = document.hidden
      ? 5 * POLL_MS
      : failed > 0
        ? RETRY_MS[Math.min(failed, 4)]
        : POLL_MS;
    await wait(rest, signal).catch(() => {});
  }
}

/** Takes the events of a stream apart. */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const message = {};
      for (const line of part.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) message[line.slice(0, at)] = line.slice(at + 2);
      }
      yield message;
    }
  }
}

/** The live tail, again and again. */
export async function follow(signal) {
  let failed = 0;
  while (!signal.aborted) {
    try {
      if (known.lastEvent === undefined) {
        const { events } = await ask("events", { limit: 100 }, signal);
        known.events = events;
        known.lastEvent = events[0]?.number ?? 0;
        tell("events");
      }
      const answer = await request(`live?after=${known.lastEvent}`, signal, {
        accept: "text/event-stream",
      });
      for await (const message of messages(answer.body)) {
        failed = 0;
        if (message.event === "missed") known.missed += Number(message.data);
        if (message.event !== "event") continue;
        const event = JSON.parse(message.data);
        if (event.number <= known.lastEvent) known.events = [];
        known.lastEvent = event.number;
        known.events = [event, ...known.events].slice(0, EVENTS_SHOWN);
        tell("events");
      }
    } catch (error) {
      if (signal.aborted || isLockedBy(error)) return;
    }
    await wait(RETRY_MS[Math.min(failed, 4)], signal).catch(() => {});
    failed += 1;
  }
}
