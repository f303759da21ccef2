// A TCP proxy that counts: what goes over a connection, handshakes and headers included, without TCP's own.

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { pause } from "../test/reliability/time.mjs";

/** One proxy in front of one port of this machine. */
export class Proxy {
  /** Bytes so far, both directions. */
  bytes = 0;
  #server;
  #sockets = new Set();

  static async start(target) {
    const proxy = new Proxy();
    proxy.#server = createServer((near) => proxy.#join(near, connect(target, "127.0.0.1")));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port() {
    return this.#server.address().port;
  }

  /** Waits until nothing was sent for `ms`. */
  async quiet(ms) {
    let before;
    do {
      before = this.bytes;
      await pause(ms);
    } while (this.bytes !== before);
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(near, far) {
    for (const [from, to] of [
      [near, far],
      [far, near],
    ]) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on("data", (bytes) => (this.bytes += bytes.length));
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }
}
