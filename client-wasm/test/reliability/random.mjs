// Chance from a number: the same seed draws the same faults.

/** Draws from one seed (xorshift64*, Vigna 2016). */
export class Random {
  #state;

  constructor(seed) {
    this.#state = mix(BigInt(seed) + 1n);
  }

  #next() {
    let state = this.#state;
    state ^= state >> 12n;
    state = BigInt.asUintN(64, state ^ (state << 25n));
    state ^= state >> 27n;
    this.#state = state;
    return Number(BigInt.asUintN(64, state * 0x2545f4914f6cdd1dn) >> 33n);
  }

  /** A whole number from `low` to `high`, both included. */
  between(low, high) {
    return low + (this.#next() % (high - low + 1));
  }

  /** True `part` times out of `whole`. */
  chance(part, whole) {
    return this.between(1, whole) <= part;
  }

  /** One of a list. */
  pick(list) {
    return list[this.between(0, list.length - 1)];
  }
}

/** Splitmix64's step: neighbouring seeds have nothing in common, and none becomes zero. */
function mix(seed) {
  let mixed = BigInt.asUintN(64, seed * 0x9e3779b97f4a7c15n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
  mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
  return mixed ^ (mixed >> 31n) || 1n;
}
