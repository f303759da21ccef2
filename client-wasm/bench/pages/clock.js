// One clock for several browsers of a machine: that of the machine, as finely as `performance.now()`.

const SAMPLES = 20;
let offset = -Infinity;

/** Reads the offset between the two clocks where `Date.now()` ticks: the earliest sight of a tick is the best. */
export function calibrate() {
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    const before = Date.now();
    let now = before;
    while (now === before) now = Date.now();
    offset = Math.max(offset, now - performance.now());
  }
}

/** Milliseconds since 1970. */
export const wall = () => performance.now() + offset;
