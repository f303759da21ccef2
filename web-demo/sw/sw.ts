/**
 * Keeps the page itself on this device, so that a reload works with everything down. The data is not
 * its business: a request it does not know (the sync endpoint above all) never passes through here.
 */
declare const self: ServiceWorkerGlobalScope;
/** Replaced after the build by the list of what was built. */
declare const __PRECACHE__: { version: string; files: string[] };

const precache = __PRECACHE__;
const PREFIX = "rejoin-demo-";
const PAGE_CACHE = `${PREFIX}${precache.version}`;
const SETTINGS_CACHE = `${PREFIX}settings`;
const SETTINGS_WAIT_MS = 1500;

const scope = new URL(self.registration.scope);
const address = (file: string) => new URL(file, scope).href;
const known = new Set(precache.files.map(address));
const settings = address("config.json");

self.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(PAGE_CACHE);
      // Names with a hash cannot be stale; everything else is asked for anew.
      const request = (file: string) =>
        new Request(address(file), { cache: file.startsWith("assets/") ? "default" : "reload" });
      await cache.addAll(precache.files.map(request));
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) {
        const current = name === PAGE_CACHE || name === SETTINGS_CACHE;
        if (name.startsWith(PREFIX) && !current) await caches.delete(name);
      }
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  const url = new URL(request.url);
  if (url.origin !== scope.origin) return;
  const plain = url.origin + url.pathname;
  if (request.mode === "navigate") event.respondWith(page(request, plain));
  else if (plain === settings) event.respondWith(currentSettings());
  else if (known.has(plain)) event.respondWith(kept(plain, request));
});

async function page(request: Request, plain: string): Promise<Response> {
  for (const candidate of [plain, `${plain}index.html`, `${plain}.html`]) {
    if (known.has(candidate)) return kept(candidate, request);
  }
  try {
    return await fetch(request);
  } catch {
    return kept(address("index.html"), request);
  }
}

async function kept(href: string, request: Request): Promise<Response> {
  const cache = await caches.open(PAGE_CACHE);
  return (await cache.match(href)) ?? fetch(request);
}

/** What the host says now; else what it said last; else nothing said. */
async function currentSettings(): Promise<Response> {
  const cache = await caches.open(SETTINGS_CACHE);
  try {
    const answer = await fetch(settings, {
      cache: "no-cache",
      signal: AbortSignal.timeout(SETTINGS_WAIT_MS),
    });
    if (answer.ok) await cache.put(settings, answer.clone());
    return answer;
  } catch {
    return (await cache.match(settings)) ?? Response.json({});
  }
}
