// What a test has @firebase/storage do, in a page and in Node.

import { initializeApp } from "@firebase/app";
import { connectStorageEmulator, getMetadata, getStorage, ref, uploadBytes, uploadBytesResumable, uploadString } from "@firebase/storage";

/**
 * The orders. `film` is the URL of what is uploaded; `size` is how many of its first bytes are meant.
 */
export async function ordersFor({ host, port, bucket, film }) {
  const storage = getStorage(initializeApp({ projectId: "p", storageBucket: bucket }));
  connectStorageEmulator(storage, host, port);
  const answer = await fetch(film);
  const bytes = await answer.blob();
  const tasks = new Map();
  const said = ({ metadata: { name, fullPath, size, contentType, customMetadata } }) => ({ name, fullPath, size, contentType, customMetadata });

  return {
    bytes: async (path, size, metadata) => said(await uploadBytes(ref(storage, path), bytes.slice(0, size), metadata)),
    string: async (path, text, format) => said(await uploadString(ref(storage, path), text, format)),
    metadata: async (path) => said({ metadata: await getMetadata(ref(storage, path)) }),
    async task(path, size, metadata) {
      const task = uploadBytesResumable(ref(storage, path), bytes.slice(0, size), metadata);
      tasks.set(path, task);
      const progress = [];
      const states = [];
      task.on("state_changed", ({ bytesTransferred, state }) => {
        progress.push(bytesTransferred);
        if (states.at(-1) !== state) states.push(state);
      });
      return { ...said(await task), progress, states };
    },
    /** Pause, and wait until the client says that it has. */
    async pause(path) {
      const task = tasks.get(path);
      const paused = new Promise((resolve) => task.on("state_changed", ({ state }) => state === "paused" && resolve()));
      task.pause();
      await paused;
    },
    resume: (path) => tasks.get(path).resume(),
    cancel: (path) => tasks.get(path).cancel(),
  };
}
