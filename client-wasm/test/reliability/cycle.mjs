// One run of one scenario: its own space on the server, its own profiles, its own ledger.

import { connect, createServer } from "node:net";
import { once } from "node:events";
import { audit, difference, Ledger } from "./ledger.mjs";
import { Tab } from "./page.mjs";
import { Profile } from "./chromium.mjs";
import { Random } from "./random.mjs";

/** A line to the server that can be cut. */
class Line {
  #sockets = new Set();
  #open = true;

  static async to(port) {
    const line = new Line();
    line.server = createServer((socket) => line.#carry(socket, port)).listen(0, "127.0.0.1");
    await once(line.server, "listening");
    line.url = `ws://127.0.0.1:${line.server.address().port}/sync`;
    return line;
  }

  #carry(socket, port) {
    if (!this.#open) {
      socket.destroy();
      return;
    }
    const there = connect(port, "127.0.0.1");
    for (const [one, other] of [
      [socket, there],
      [there, socket],
    ]) {
      this.#sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }

  cut() {
    this.#open = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#open = true;
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** Where the package with the build for tests in it is. */
const TESTED = "/tested";

/** Their faults are planted in the page, where the engine must then be. */
const ON_PAGE = /^(b11|b13|b18|firefox_.*)$/u;

/** What a scenario works with. */
export class Cycle {
  /** What is planted in its pages; they then load the build for tests, as they do with `null`. */
  bug;
  /** Whether the engine runs in workers: with every other seed, where nothing is planted. */
  worker;
  ledger = new Ledger();
  faults = [];
  notes = [];
  #profiles = [];
  #expected = [];
  #world;

  static async begin(world, scenario, seed, bug) {
    const cycle = new Cycle();
    cycle.bug = bug;
    cycle.worker = bug === undefined && seed % 2 === 1 && !ON_PAGE.test(scenario);
    cycle.#world = world;
    cycle.random = new Random(seed);
    cycle.origin = world.origin;
    cycle.space = `${scenario}-${seed}-${world.next()}`;
    cycle.name = cycle.space;
    cycle.line = await Line.to(world.server.port);
    cycle.url = cycle.line.url;
    return cycle;
  }

  /** A profile of this cycle. */
  profile(profile = new Profile()) {
    this.#profiles.push(profile);
    return profile;
  }

  /** Where its pages find the package, unless told otherwise. */
  get base() {
    return this.bug === undefined ? "" : TESTED;
  }

  /** Told with the end of the cycle. */
  log(text) {
    this.notes.push(text);
  }

  /** What went wrong; `kind` is one of those that are counted. */
  fault(kind, what) {
    this.faults.push({ kind, what });
  }

  /** Fails the cycle unless two values are equal. */
  same(what, found, wanted) {
    const [seen, want] = [JSON.stringify(found), JSON.stringify(wanted)];
    if (seen !== want) this.fault("wrong", `${what}: ${seen}, not ${want}`);
  }

  /** A page complained. */
  noise(text) {
    if (!this.#expected.some((pattern) => pattern.test(text))) this.fault("wrong", text);
  }

  /** Complaints of the browser that belong to the scenario. */
  expect(pattern) {
    this.#expected.push(pattern);
  }

  /**
   * The end of every cycle: the tabs reach the server by themselves, a newcomer gets what they have, and all
   * of them hold what the ledger says, once.
   */
  async settle(...tabs) {
    for (const tab of tabs) await tab.synced();
    const newcomer = await this.newcomer();
    const wanted = await newcomer.seen();
    this.faults.push(...audit("server", wanted, this.ledger));
    for (const [at, tab] of tabs.entries()) {
      await tab.synced();
      const seen = await tab.seen();
      this.faults.push(...audit(`client ${at}`, seen, this.ledger));
      if (this.faults.some(({ kind }) => kind === "lost")) {
        this.log(`client ${at}: ${JSON.stringify(await tab.status())}`);
      }
      const differs = difference(seen, wanted);
      if (differs.length > 0) this.fault("torn", `client ${at} differs in ${differs}`);
    }
    await newcomer.page.context().close();
  }

  /** A client that has never been here: it shows what the server has. */
  async newcomer() {
    const tab = await Tab.open(await this.#world.witness.privateContext(), this);
    await tab.database({ name: `${this.name}-newcomer`, url: this.#world.server.url });
    await tab.synced();
    return tab;
  }

  /** Ends what the cycle began. */
  async end() {
    for (const profile of this.#profiles) await profile.remove();
    this.line.close();
  }
}
