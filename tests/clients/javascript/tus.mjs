// tus-js-client, driven from outside: argv[2] is a JSON description of what to do, the last line of the output is what came of it.
//
// {"file":       its path
//  "read":       "buffer" | "file" | "stream": what the client is given; a stream has no length that it knows of
//  "options":    of tus-js-client: endpoint, chunkSize, metadata, parallelUploads, uploadUrl, …
//  "urls":       a file that remembers the URLs of uploads, and has them found again
//  "stopAt":     let go when the service has so many bytes (at least), as a process does that is stopped
//  "terminate":  at the same moment, have the service forget them}
//
// {"outcome": "success" | "stopped" | "terminated" | "error", "url", "resumed": whether a remembered URL was found,
//  "error": its text, "status": of the answer that was to blame}

import { createReadStream, readFileSync } from "node:fs";
import { PassThrough } from "node:stream";

import tus from "tus-js-client";

const task = JSON.parse(process.argv[2]);

function source() {
  if (task.read === "buffer") return readFileSync(task.file);
  if (task.read === "file") return createReadStream(task.file);
  // Version 4.3.1 hangs on a file's own stream when the length comes later; on one that passes it through it does not.
  return createReadStream(task.file).pipe(new PassThrough());
}

function say(outcome, more = {}) {
  const said = { outcome, url: upload.url, resumed, ...more };
  process.stdout.write(`\n${JSON.stringify(said)}\n`, () => process.exit(0));
}

let resumed = false;
let stopping = false;

async function stop() {
  if (stopping) return;
  stopping = true;
  await upload.abort(task.terminate === true);
  say(task.terminate === true ? "terminated" : "stopped");
}

function fail(error) {
  say("error", { error: String(error), status: error.originalResponse?.getStatus() ?? null });
}

const upload = new tus.Upload(source(), {
  // Long enough to be pauses, short enough for tests.
  retryDelays: [0, 50, 200, 1000, 1000, 1000],
  ...task.options,
  ...(task.urls === undefined ? {} : { urlStorage: new tus.FileUrlStorage(task.urls) }),
  onChunkComplete(_size, accepted) {
    if (task.stopAt !== undefined && accepted >= task.stopAt) stop().catch(fail);
  },
  onSuccess: () => say("success"),
  onError: fail,
});

if (task.urls !== undefined) {
  const [former] = await upload.findPreviousUploads();
  if (former !== undefined) {
    upload.resumeFromPreviousUpload(former);
    resumed = true;
  }
}
upload.start();
