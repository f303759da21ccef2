import { VitePWA } from "vite-plugin-pwa";

/** A service worker keeps the page itself, so that it opens without a network, too. */
export const offline = () =>
  VitePWA({
    registerType: "autoUpdate",
    manifest: {
      name: "Tasks",
      short_name: "Tasks",
      theme_color: "#3550c8",
      background_color: "#f6f5f2",
      icons: [{ src: "icon.svg", sizes: "any", type: "image/svg+xml" }],
    },
    workbox: { globPatterns: ["**/*.{html,js,css,svg,wasm}"] },
  });
