import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Host, type Scope } from "../../ts/host.js";
import { Lender } from "../../ts/lender.js";
import { Opener } from "../../ts/open.js";
import type { RawEngine, RawEngineClass, RawEvent, RawOp, RawOptions } from "../../ts/raw.js";
import { remoteEngine, type Running } from "../../ts/remote.js";
import { Stage } from "../../ts/stage.js";
import type { News, Note, Port } from "../../ts/wire.js";
import { memoryEngine, type MemoryEngine } from "./memory.js";
import { schema, settled } from "./world.js";

const OPTIONS: RawOptions = {
  ...{ name: "test", url: null, space: "demo", token: null, asks: false },
  collections: [{ pattern: "lists", columns: [["name", "lww"]] }],
};
const SAFE = { relaxed: false, echo: true };

interface Workers {
  readonly start: () => Running;
  readonly opened: MemoryEngine[];
  readonly stages: Stage[];
  /** What the page was told of workers that failed; calling one is such a failure. */
  readonly failures: ((message: string) => void)[];
  ended: number;
}

/** Workers that are ports of channels; `scope` says what differs. */
function workers(scope: Partial<Scope> = {}): Workers {
  const { Engine, opened } = memoryEngine();
  const made: Workers = {
    ...{ opened, stages: [], failures: [], ended: 0 },
    start: () => {
      const { port1, port2 } = new MessageChannel();
      new Host(port2 as unknown as Port, {
        load: async () => Engine,
        lend: (stage) => void made.stages.push(stage),
        live: async () => false,
        ...scope,
      });
      return {
        port: port1 as unknown as Port,
        onFailure: (failed) => void made.failures.push(failed),
        terminate: () => {
          made.ended += 1;
          port1.close();
        },
      };
    },
  };
  return made;
}

async function openRaw(
  made: Workers,
): Promise<{ engine: RawEngine; inner: MemoryEngine; events: RawEvent[] }> {
  const events: RawEvent[] = [];
  const engine = await remoteEngine(made.start).open(OPTIONS, (event) => events.push(event));
  const [inner] = made.opened;
  if (inner === undefined) throw new Error("no engine was opened");
  return { engine, inner, events };
}

const add = (id: string, name = id): RawOp => ({
  ...{ op: "add", collection: "lists", id, erase: false },
  fields: [["name", "lww", "set", name]],
});

/** Until what was posted has arrived, and what that posted. */
async function arrived(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await settled();
}

describe("an engine in a worker", () => {
  test("tells_what_a_write_changed_before_the_write_resolves", async () => {
    const { engine, events } = await openRaw(workers());
    engine.watch("lists", true);
    await engine.scan("lists", null, 10);
    events.length = 0;
    const written = [1, 2, 3].map(async (nth) => {
      const { row, rows } = await engine.write([add(String(nth))], SAFE);
      const told = events.flatMap((event) => (event.type === "changed" ? event.changes : []));
      return [row, rows?.[0]?.values, told[nth - 1]?.row?.values];
    });
    assert.deepEqual(await Promise.all(written), [
      [1, ["1"], ["1"]],
      [2, ["2"], ["2"]],
      [3, ["3"], ["3"]],
    ]);
    const pending = events.flatMap((event) =>
      event.type === "status" ? [event.status.pending] : [],
    );
    assert.deepEqual(pending, [1, 2, 3]);
    await engine.close();
  });

  test("does_all_that_a_database_asks_of_it", async () => {
    const made = workers();
    const opener = new Opener();
    const load = async (): Promise<RawEngineClass> => remoteEngine(made.start);
    const sync = { url: "ws://localhost:1/", space: "demo", token: async () => "a token" };
    const db = await opener.open({ name: "test", schema, sync, worker: true }, load);
    const [inner] = made.opened;
    assert.ok(inner !== undefined);
    const live = db.tasks.where({ done: false }).live();
    const shown: string[][] = [];
    live.subscribe((rows) => shown.push(rows.map(({ title }) => title)));
    await live.ready;
    const write = db.tasks.add({ id: "1", title: "a", tags: ["x"] });
    assert.equal((await write).title, "a");
    assert.deepEqual(live.getSnapshot()?.[0]?.tags, ["x"]);
    inner.acknowledge();
    await write.synced;
    assert.equal(db.status.synced, true);
    await assert.rejects(db.tasks.add({ id: "1", title: "b" }), { code: "exists" });
    const refused = db.tasks.update("1", { title: "refused" });
    await refused;
    inner.refuse();
    await assert.rejects(refused.synced, { code: "rejected" });
    assert.equal(db.rejected.length, 1);
    await db.rejected.discard(2);
    assert.equal(db.rejected.length, 0);
    inner.emit({ type: "token", refused: false });
    await arrived();
    assert.deepEqual(inner.tokens, ["a token"]);
    assert.equal(await db.tasks.count(), 1);
    assert.deepEqual(await db.roots(), {});
    await db.close();
    assert.deepEqual([inner.closed, made.ended, shown.at(-1)], [true, 1, ["refused"]]);
    await db.destroy();
    assert.equal(made.ended, 2);
    const wrong = { name: "test", schema, worker: "yes" as unknown as boolean };
    await assert.rejects(opener.open(wrong, load), { code: "invalid" });
  });

  test("is_paused_from_the_call_on_whatever_is_under_way", async () => {
    const { engine, inner, events } = await openRaw(workers());
    inner.emit({ type: "status", status: inner.status() });
    engine.pause(true);
    assert.equal(engine.status().paused, true);
    const told = events.length;
    await arrived();
    const seen = events.slice(told - 1).flatMap((event) => {
      return event.type === "status" ? [event.status.paused] : [];
    });
    assert.deepEqual([...new Set(seen)], [true]);
    assert.deepEqual([inner.paused, engine.status().state], [true, "offline"]);
    engine.pause(false);
    engine.pause(true);
    engine.pause(false);
    await arrived();
    assert.deepEqual([inner.paused, engine.status().paused], [false, false]);
    await engine.close();
  });

  test("shows_no_row_that_was_under_way_when_its_collection_began_to_be_watched", async () => {
    const { engine, inner, events } = await openRaw(workers());
    engine.watch("lists", true);
    await engine.scan("lists", null, 10);
    // On its way while the page looks away and again.
    await inner.write([add("1", "old")], SAFE);
    engine.watch("lists", false);
    engine.watch("lists", true);
    const scanned = engine.scan("lists", null, 10);
    assert.deepEqual((await scanned).rows[0]?.values, ["old"]);
    const changes = events.flatMap((event) => (event.type === "changed" ? event.changes : []));
    assert.deepEqual(changes, [{ collection: "lists", id: "1" }]);
    await inner.write([{ ...add("1", "new"), op: "update" }], SAFE);
    await arrived();
    assert.deepEqual(
      events.flatMap((event) => (event.type === "changed" ? [event.changes[0]?.row?.values] : [])),
      [undefined, ["new"]],
    );
    await engine.close();
  });

  test("sends_many_changes_in_parts_that_become_visible_together", async () => {
    const made = workers();
    const opener = new Opener();
    const load = async (): Promise<RawEngineClass> => remoteEngine(made.start);
    const db = await opener.open({ name: "test", schema, worker: true }, load);
    const [inner] = made.opened;
    const live = db.lists.orderBy("name").live();
    await live.ready;
    const seen: number[] = [];
    const stop = db.on("changed", (keys) => seen.push(keys.length));
    let written = false;
    const many = Array.from({ length: 2_300 }, (_, nth) => add(String(nth)));
    const writing = db.tasks.add({ title: "ahead" });
    void inner?.write(many, SAFE).then(() => (written = true));
    // Flushes in between show nothing of it.
    for (const title of ["between", "behind"]) await db.tasks.add({ title });
    await writing;
    while (live.getSnapshot()?.length === 0) {
      await db.tasks.count();
      await settled();
    }
    assert.equal(written, true);
    assert.equal(live.getSnapshot()?.length, 2_300);
    assert.equal(live.getSnapshot()?.[0]?.name, "0");
    assert.deepEqual(seen.filter((count) => count > 3).length, 1);
    assert.ok(seen.some((count) => count >= 2_300));
    stop();
    await db.close();
  });

  test("that_is_closed_ends_its_worker_and_fails_later_calls", async () => {
    const made = workers();
    const { engine } = await openRaw(made);
    const last = engine.write([add("1")], SAFE);
    await Promise.all([engine.close(), engine.close()]);
    assert.equal((await last).row, 1);
    assert.equal(made.ended, 1);
    await assert.rejects(engine.get("lists", "1"), { code: "closed" });
    for (const call of [() => engine.token("late"), () => engine.pause(true)]) {
      assert.throws(call, { code: "closed" });
    }
  });

  test("whose_script_does_not_load_fails_to_open", async () => {
    const broken = {
      start: () => {
        throw new Error("blocked by the policy");
      },
    };
    await assert.rejects(
      remoteEngine(broken.start).open(OPTIONS, () => undefined),
      {
        code: "load",
        retryable: true,
        message: /blocked by the policy/,
      },
    );
    const made = workers({ live: () => new Promise(() => undefined) });
    const opening = remoteEngine(made.start).open(OPTIONS, () => undefined);
    made.failures[0]?.("not found");
    await assert.rejects(opening, { code: "load", message: /not found/ });
    assert.equal(made.ended, 1);
  });

  test("whose_webassembly_does_not_load_fails_to_open_and_ends_its_worker", async () => {
    const load = { code: "load", message: "no WebAssembly", retryable: true };
    const made = workers({ load: () => Promise.reject(load) });
    await assert.rejects(openRaw(made), load);
    assert.equal(made.ended, 1);
  });

  test("that_ends_in_a_trap_is_poisoned_and_fails_what_waits", async () => {
    const made = workers();
    const { engine, inner, events } = await openRaw(made);
    inner.gate = new Promise(() => undefined);
    const waits = assert.rejects(engine.scan("lists", null, 10), { code: "poisoned" });
    await arrived();
    inner.failure = new WebAssembly.RuntimeError("unreachable");
    await assert.rejects(engine.get("lists", "1"), { code: "poisoned" });
    await waits;
    assert.equal(inner.broken, "unreachable");
    assert.deepEqual(events.at(-1), { type: "poisoned", message: "unreachable" });
    await assert.rejects(engine.get("lists", "1"), { code: "poisoned" });
    assert.equal(made.ended, 1);
  });

  test("whose_worker_fails_later_is_poisoned", async () => {
    const made = workers();
    const { engine, inner, events } = await openRaw(made);
    inner.gate = new Promise(() => undefined);
    const waits = assert.rejects(engine.scan("lists", null, 10), { code: "poisoned" });
    made.failures[0]?.("unreachable");
    await waits;
    assert.equal(events.at(-1)?.type, "poisoned");
    assert.equal(made.ended, 1);
  });
});

describe("what a page lends", () => {
  /** A page's `localStorage`, and what the page tells its worker. */
  function lender(entries: Record<string, string>): {
    lender: Lender;
    told: News[];
    kept: Map<string, string>;
    fill: () => void;
  } {
    const kept = new Map(Object.entries(entries));
    let full = false;
    const methods = {
      getItem: (key: string) => kept.get(key) ?? null,
      setItem: (key: string, value: string) => {
        if (full) throw new Error("QuotaExceededError");
        kept.set(key, value);
      },
      removeItem: (key: string) => void kept.delete(key),
    };
    const localStorage = Object.create(methods) as Record<string, string>;
    for (const [key, value] of kept) localStorage[key] = value;
    Object.defineProperty(globalThis, "localStorage", { configurable: true, value: localStorage });
    const told: News[] = [];
    return {
      ...{ lender: new Lender("db", (news) => told.push(news)), told, kept },
      fill: () => (full = true),
    };
  }
  const key = "rejoin/db/promised";

  test("is_only_what_is_about_the_database", () => {
    const { lender: page } = lender({ [key]: "7", "rejoin/other/promised": "8", mine: "x" });
    assert.deepEqual(page.begin("life"), { visible: true, kept: { [key]: "7" }, life: "life" });
    Reflect.deleteProperty(globalThis, "localStorage");
    assert.equal(new Lender("db", () => undefined).begin("life").kept, null);
  });

  test("numbers_that_other_tabs_raised_are_neither_lowered_nor_removed", () => {
    const { lender: page, told, kept } = lender({ [key]: "9" });
    page.note([{ key, from: "7", to: "8" }]);
    page.note([{ key, from: "7", to: null }]);
    assert.equal(kept.get(key), "9");
    assert.deepEqual(told, [
      { type: "kept", key, value: "9" },
      { type: "kept", key, value: "9" },
    ]);
    page.note([{ key, from: "7", to: "12" }]);
    assert.equal(kept.get(key), "12");
    page.note([{ key, from: "12", to: null }]);
    assert.equal(kept.has(key), false);
    page.note([{ key, from: "12", to: "13" }]);
    assert.equal(kept.get(key), "13");
  });

  test("a_note_that_cannot_be_made_holds_back_those_behind_it", () => {
    const { lender: page, kept, fill } = lender({ [key]: "9" });
    fill();
    page.note([
      { key: "rejoin/db/lost", from: null, to: "true" },
      { key, from: "9", to: null },
    ]);
    assert.equal(kept.get(key), "9");
  });

  test("the_engine_finds_it_as_on_a_page", async () => {
    const notes: Note[] = [];
    let asked = 0;
    const wires = { note: (note: Note) => void notes.push(note), persist: () => void (asked += 1) };
    const stage = new Stage({ visible: false, kept: { [key]: "7" }, life: "life" }, wires);
    const heard: string[] = [];
    for (const type of ["visibilitychange", "resume"]) {
      stage.document.addEventListener(type, () => {
        heard.push(`${type} ${stage.document.visibilityState}`);
      });
    }
    stage.hear({ type: "visibilitychange", visible: true });
    stage.hear({ type: "resume" });
    assert.deepEqual(heard, ["visibilitychange visible", "resume visible"]);
    const { localStorage: kept, navigator } = stage;
    assert.equal(kept?.getItem(key), "7");
    kept.setItem(key, "7");
    kept.setItem(key, "8");
    stage.hear({ type: "kept", key, value: "11" });
    kept.removeItem(key);
    kept.removeItem(key);
    assert.deepEqual(notes, [
      { key, from: "7", to: "8" },
      { key, from: "11", to: null },
    ]);
    const granted = navigator.storage.persist();
    stage.hear({ type: "persist", granted: true });
    assert.deepEqual([await granted, asked], [true, 1]);
  });
});
