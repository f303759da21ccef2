import { defineConfig } from "vite";
import { offline } from "./offline.ts";

export default defineConfig({ plugins: [offline()] });
