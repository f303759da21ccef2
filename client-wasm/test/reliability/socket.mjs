// A WebSocket client, as far as a browser on this machine needs one: Node.js 20 has none.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";

const FIN_TEXT = 0x81;
const FIN_CLOSE = 0x88;

/** A length in as few bytes as it takes. */
function masked(length) {
  if (length < 126) return Buffer.from([0x80 | length]);
  const bytes = Buffer.alloc(length < 65_536 ? 3 : 9);
  bytes[0] = 0x80 | (length < 65_536 ? 126 : 127);
  if (length < 65_536) bytes.writeUInt16BE(length, 1);
  else bytes.writeBigUInt64BE(BigInt(length), 1);
  return bytes;
}

/** One connection, for texts. */
export class TextSocket {
  #socket;
  #bytes = Buffer.alloc(0);
  #parts = [];

  /** Connects, and calls `heard` with each text. */
  static async open(address, heard) {
    const key = randomBytes(16).toString("base64");
    const headers = {
      ...{ connection: "Upgrade", upgrade: "websocket" },
      ...{ "sec-websocket-key": key, "sec-websocket-version": "13" },
    };
    const asked = request(address.replace(/^ws:/u, "http:"), { headers });
    asked.end();
    const [, socket, first] = await once(asked, "upgrade");
    const text = new TextSocket();
    text.#socket = socket;
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes) => text.#hear(bytes, heard));
    text.#hear(first, heard);
    return text;
  }

  /** Sends a text, masked as clients must. */
  send(text) {
    const body = Buffer.from(text);
    const mask = randomBytes(4);
    const head = Buffer.concat([Buffer.from([FIN_TEXT]), masked(body.length)]);
    this.#socket.write(Buffer.concat([head, mask, body.map((byte, at) => byte ^ mask[at % 4])]));
  }

  close() {
    this.#socket.destroy();
  }

  #hear(bytes, heard) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (let frame = this.#take(); frame !== undefined; frame = this.#take()) {
      const { first, body } = frame;
      if (first === FIN_CLOSE) this.close();
      // Control frames that ask for nothing here.
      if ((first & 0x0f) > 2) continue;
      this.#parts.push(body);
      if ((first & 0x80) === 0) continue;
      heard(Buffer.concat(this.#parts).toString());
      this.#parts = [];
    }
  }

  #take() {
    const bytes = this.#bytes;
    if (bytes.length < 2) return undefined;
    const short = bytes[1] & 0x7f;
    const start = short === 127 ? 10 : short === 126 ? 4 : 2;
    if (bytes.length < start) return undefined;
    const long = () => (short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2)));
    const end = start + (short < 126 ? short : long());
    if (bytes.length < end) return undefined;
    this.#bytes = bytes.subarray(end);
    return { first: bytes[0], body: bytes.subarray(start, end) };
  }
}
