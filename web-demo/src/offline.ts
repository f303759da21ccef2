/** Registers the service worker of a built page; `vite` alone serves fresh modules without one. */
export function keepPage(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  navigator.serviceWorker
    .register(new URL("sw.js", document.baseURI), { updateViaCache: "none" })
    .catch((error: unknown) => console.warn("the page is not kept for offline use:", error));
}
