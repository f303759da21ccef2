// Waiting, always with an end.

/** Something took longer than it may. */
export class Stuck extends Error {}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What `promise` gives, or {@link Stuck} after `limit` milliseconds. */
export async function within(limit, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Stuck(`not within ${limit} ms: ${what}`)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until `holds` gives true. */
export async function until(limit, what, holds) {
  const end = Date.now() + limit;
  while (!(await within(limit, what, holds()))) {
    if (Date.now() > end) throw new Stuck(`not within ${limit} ms: ${what}`);
    await pause(50);
  }
}
