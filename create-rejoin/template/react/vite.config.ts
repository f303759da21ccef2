import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { offline } from "./offline.ts";

export default defineConfig({ plugins: [react(), offline()] });
