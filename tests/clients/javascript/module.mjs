// resumable.js in Node, driven from outside: argv[2] is a JSON description of what to do.
//
// {"module":  the path of resumable.js
//  "file":    the path of the file
//  "options": of Upload
//  "tokens":  Authorization of the requests, each asked for when it is needed; the last one stays
//  "remember": a file that is the store
//  "cancelAt" | "pauseAt": at so many bytes sent}
//
// The last line of the output: {"outcome": "finished" | the error's name, "result", "status", "message", "problem", "states", "stored",
// "waited": [stored, sent] as they were told last, each time that it began to wait}

import { openAsBlob, readFileSync, writeFileSync } from "node:fs";

const task = JSON.parse(process.argv[2]);
const { Upload } = await import(task.module);

const tokens = [...(task.tokens ?? [])];
const read = () => {
  try {
    return JSON.parse(readFileSync(task.remember, "utf8"));
  } catch {
    return {};
  }
};
const store = {
  get: async (key) => (task.remember ? read()[key] : null),
  set: async (key, value) => task.remember && writeFileSync(task.remember, JSON.stringify({ ...read(), [key]: value })),
  remove: async (key) => {
    const { [key]: _, ...rest } = read();
    if (task.remember) writeFileSync(task.remember, JSON.stringify(rest));
  },
};
const states = [];
let stored = [];
let told = [0, 0];
const waited = [];
let cancelled = null;
let paused = false;

const upload = new Upload(await openAsBlob(task.file), {
  retryDelays: [50, 100, 200, 400, 800, 1000, 1000, 1000],
  store,
  ...(task.tokens ? { headers: async () => ({ Authorization: tokens.length > 1 ? tokens.shift() : tokens[0] }) } : {}),
  ...task.options,
  onStateChange(state) {
    states.push(state);
    if (state === "waiting") waited.push(told);
  },
  onProgress(progress) {
    stored.push(progress.stored);
    told = [progress.stored, progress.sent];
    if (task.cancelAt !== undefined && progress.stored >= task.cancelAt) cancelled ??= upload.cancel();
    if (task.pauseAt !== undefined && progress.stored >= task.pauseAt && !paused) {
      paused = true;
      upload.pause();
      setTimeout(() => upload.resume(), 100);
    }
  },
});

const said = { states, outcome: "finished", result: null, status: null, message: "", problem: null };
try {
  said.result = await upload.start();
} catch (error) {
  Object.assign(said, { outcome: error.name, status: error.status ?? null, message: error.message, problem: error.problem ?? null });
}
await cancelled;
console.log(JSON.stringify({ ...said, waited, stored: Math.max(0, ...stored), url: upload.url }));
