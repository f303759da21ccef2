// What Loro's page and server say to each other, as "Synchronization" of its documentation proposes: each tells its
// version, and sends what the other's version lacks; then updates as they are made.

const VERSION = 0;
const UPDATE = 1;

const message = (kind, bytes) => {
  const whole = new Uint8Array(bytes.length + 1);
  whole[0] = kind;
  whole.set(bytes, 1);
  return whole;
};

export const versionMessage = (doc) => message(VERSION, doc.version().encode());
export const updateMessage = (update) => message(UPDATE, update);

/** Takes a message: calls `lacking` with what the other end lacks, or `received` with what it sent. */
export function takeMessage({ VersionVector }, doc, whole, { lacking, received }) {
  const bytes = whole.subarray(1);
  if (whole[0] === UPDATE) {
    doc.import(bytes);
    received?.(whole);
    return;
  }
  const theirs = VersionVector.decode(bytes);
  const order = doc.version().compare(theirs);
  if (order === undefined || order > 0) {
    lacking(updateMessage(doc.export({ mode: "update", from: theirs })));
  }
}
