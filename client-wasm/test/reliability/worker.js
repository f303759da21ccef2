// A service worker as apps have one: what it has seen once it serves for ever.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(self.location.origin)) return;
  event.respondWith(serve(request));
});

async function serve(request) {
  const cache = await caches.open("kept");
  const kept = await cache.match(request.url);
  if (kept !== undefined) return kept;
  const fetched = await fetch(request);
  await cache.put(request.url, fetched.clone());
  return fetched;
}
