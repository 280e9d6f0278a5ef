// @google-cloud/storage, driven from outside (orders.mjs). argv[2]: {"endpoint", "bucket", "file": what is uploaded}.

import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";

import { IdempotencyStrategy, Storage } from "@google-cloud/storage";

import { hurry } from "./hurry.mjs";
import { obey } from "./orders.mjs";

const task = JSON.parse(process.argv[2]);

hurry(20);

/** The client; with `retry` it tries again also what it does not know to be harmless. */
function bucketOf(retry) {
  const retryOptions = retry ? { idempotencyStrategy: IdempotencyStrategy.RetryAlways } : { autoRetry: false };
  return new Storage({ apiEndpoint: task.endpoint, projectId: "p", retryOptions }).bucket(task.bucket);
}

const patient = bucketOf(true);
const plain = bucketOf(false);
/** Writing streams that were left open, by the name of the file. */
const open = new Map();

await obey({
  /** `bucket.upload` of the file; what the client then knows of the object, and how much it said was done. */
  async upload(name, options, path = task.file) {
    const progress = [];
    const onUploadProgress = ({ bytesWritten }) => progress.push(bytesWritten);
    const [file] = await patient.upload(path, { destination: name, onUploadProgress, ...options });
    return { metadata: file.metadata, progress: progress.at(-1) ?? null };
  },
  /** `createWriteStream`, and what is between these bytes of the file (`end` is exclusive): the client does not know how much comes. */
  async write(name, start, end, options) {
    const file = patient.file(name);
    const source = start < end ? createReadStream(task.file, { start, end: end - 1 }) : [];
    await pipeline(source, file.createWriteStream(options));
    return { metadata: file.metadata };
  },
  async save(name, text, options) {
    await patient.file(name).save(text, options);
  },
  async begin(name, options) {
    const [uri] = await plain.file(name).createResumableUpload(options);
    return uri;
  },
  /** Write the first bytes of the file, and leave the stream open. */
  async leave(name, end, options) {
    const stream = plain.file(name).createWriteStream(options);
    const failed = new Promise((resolve) => stream.once("error", resolve));
    open.set(name, { stream, failed });
    for await (const piece of createReadStream(task.file, { end: end - 1 })) {
      if (!stream.write(piece)) await new Promise((drained) => stream.once("drain", drained));
    }
  },
  /** Break the stream off. */
  async destroy(name) {
    const { stream, failed } = open.get(name);
    stream.destroy(new Error("broken off"));
    return (await failed).message;
  },
  async metadata(name) {
    const [metadata] = await patient.file(name).getMetadata();
    return metadata;
  },
  async exists(name) {
    const [there] = await patient.file(name).exists();
    return there;
  },
  async remove(name) {
    await plain.file(name).delete();
  },
});
process.exit(0);
