// Browsers outlive whoever started them: none is left behind, however this program ends.

const groups = new Set();

/** Takes note of the head of a process group until it ends. */
export function runs(child) {
  const { pid } = child;
  groups.add(pid);
  child.once("exit", () => groups.delete(pid));
}

process.on("exit", () => {
  for (const pid of groups) process.kill(-pid, "SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));
