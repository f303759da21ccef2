// The order of peers in a round: each round begins with another, so that none always runs first or after the same.

/** The list, begun at `round`. */
export function rotated(list, round) {
  const start = round % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}
