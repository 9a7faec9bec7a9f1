import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import globals from "globals";

export default defineConfig([
  globalIgnores(["book/static/live/onnxruntime/", "_build/", ".venv/", "training/runs/"]),
  js.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, words: "readonly" } },
    rules: { "one-var": ["error", "never"] },
  },
  {
    files: ["book/static/live/worker.js"],
    languageOptions: { globals: { ...globals.worker, words: "readonly" } },
  },
]);
