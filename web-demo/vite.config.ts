import { defineConfig } from "vite";
import { contentSecurityPolicy, offline } from "./plugins/offline.ts";

// The page talks to its own origin unless told otherwise. Under `vite` and `vite preview` what belongs
// to the sync server is passed on to it, so the page stays up while that server is down.
const server = process.env["REJOIN_SERVER"] ?? "http://127.0.0.1:8787/";
const proxy = { "^/(sync|healthz)(\\?.*)?$": { target: server, ws: true } };

export default defineConfig({
  // Two pages: an unknown path is a 404, not the first page.
  appType: "mpa",
  plugins: [contentSecurityPolicy(), offline()],
  server: { proxy },
  preview: { proxy },
  build: {
    target: "es2022",
    // The module is fetched while it compiles, and cached apart; never as text inside a script.
    assetsInlineLimit: 0,
    sourcemap: true,
    rolldownOptions: {
      input: { index: "index.html", catalog: "catalog.html", sw: "sw/sw.ts" },
      output: {
        // Its address must stay the same from build to build.
        entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
});
