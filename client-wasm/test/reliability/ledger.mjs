// What was promised, kept outside of every browser, and what an audit makes of it.

/** What pages reported of their writes. */
export class Ledger {
  /** Reported durable on the device, and not yet known to be on the server. */
  flushed = new Set();
  /** Reported to be on the server. */
  synced = new Set();
  /** Codes with which writes failed, by how often. */
  failed = new Map();
  /** Writes that had returned and were not shown where they were written. */
  unseen = new Set();

  hear(kind, id, more) {
    if (kind === "flushed") this.flushed.add(id);
    else if (kind === "synced") this.synced.add(id);
    else if (kind === "unseen") this.unseen.add(id);
    else if (kind === "failed") this.failed.set(more, (this.failed.get(more) ?? 0) + 1);
  }

  /** A fault beyond what a device promises: of what it alone had, anything may be gone. */
  forgive() {
    this.flushed = new Set(this.synced);
  }

  /** What the device alone has, as far as is known. */
  get unsent() {
    return [...this.flushed].filter((id) => !this.synced.has(id));
  }

  get promised() {
    return new Set([...this.flushed, ...this.synced]);
  }
}

/** What a write adds to the sum; a text of its own would do as well. */
export function amount(id) {
  let hash = 7;
  for (const letter of id) hash = (hash * 31 + letter.charCodeAt(0)) % 9973;
  return 1 + hash;
}

/**
 * What is wrong with the content `seen` of a replica. A write is a row that adds a mark, its twin and its
 * amount to the sum, and moves its lane on: whatever is there of it must be there once, and all of it.
 */
export function audit(who, seen, ledger) {
  const faults = [];
  const found = (kind, what) => faults.push({ kind, what: `${who}: ${what}` });
  const marks = new Map(seen.marks);
  if (ledger.unseen.size > 0)
    found("lost", `not shown when they had returned: ${[...ledger.unseen]}`);
  const lost = [...ledger.promised].filter((id) => !marks.has(id));
  if (lost.length > 0) found("lost", `${lost.length} promised writes, ${lost.slice(0, 5)}`);
  for (const [id, value] of marks) {
    if (value !== amount(id)) found("torn", `the mark ${id} says ${value}`);
  }
  const twins = new Set(seen.twins);
  const lonely = [...marks.keys()].filter((id) => !twins.has(id));
  const orphans = seen.twins.filter((id) => !marks.has(id));
  if (lonely.length + orphans.length > 0) found("torn", `without the other: ${lonely} ${orphans}`);
  const sum = [...marks.keys()].reduce((sum, id) => sum + amount(id), 0);
  if (seen.sum > sum) found("doubled", `the sum is ${seen.sum}, the marks make ${sum}`);
  if (seen.sum < sum) found("torn", `the sum is ${seen.sum}, the marks make ${sum}`);
  for (const [lane, at] of seen.lanes) {
    const last = Math.max(
      ...[...marks.keys()].filter((id) => id.startsWith(`${lane}.`)).map((id) => +id.split(".")[1]),
    );
    if (at !== last) found("torn", `lane ${lane} is at ${at}, its last mark is ${last}`);
  }
  return faults;
}

/** What differs between two replicas that should be equal. */
export function difference(one, other) {
  return ["marks", "twins", "lanes", "sum", "roots"].filter(
    (part) => JSON.stringify(one[part]) !== JSON.stringify(other[part]),
  );
}
