/**
 * Where this page syncs. In order: `?server=` and `?space=`, then `config.json` beside the page (so that
 * a host can point a finished build elsewhere), then what the build was told, then this page's own host.
 */
export interface Server {
  readonly url: string;
  readonly space: string;
}

const SETTINGS_WAIT_MS = 2000;

export async function findServer(page: URL): Promise<Server> {
  const settings = await readSettings(new URL("config.json", page));
  const server =
    page.searchParams.get("server") ??
    settings["server"] ??
    import.meta.env["VITE_REJOIN_SERVER"] ??
    "/sync";
  return {
    url: socketUrl(String(server), page),
    space: page.searchParams.get("space") ?? settings["space"] ?? "demo",
  };
}

/** Takes a port, `host:port`, a path on this host, or a whole address. */
export function socketUrl(server: string, page: URL): string {
  let text = server.trim();
  if (/^\d{1,5}$/.test(text)) text = `//${page.hostname}:${text}`;
  else if (/^[\w.-]+:\d{1,5}(\/|$)/.test(text)) text = `//${text}`;
  const url = new URL(text, page);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.pathname === "/") url.pathname = "/sync";
  url.hash = "";
  return url.href;
}

/** Settings are a convenience: none, when they cannot be had or are not what was expected. */
async function readSettings(address: URL): Promise<Record<string, string>> {
  try {
    const answer = await fetch(address, { signal: AbortSignal.timeout(SETTINGS_WAIT_MS) });
    if (!answer.ok) return {};
    const value: unknown = await answer.json();
    if (typeof value !== "object" || value === null) return {};
    return Object.fromEntries(Object.entries(value).filter(([, v]) => typeof v === "string"));
  } catch (error) {
    console.info("no settings beside the page:", error);
    return {};
  }
}
