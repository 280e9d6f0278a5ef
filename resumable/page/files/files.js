// Files that were chosen or dropped, folders with what is in them.

/** The files of an `<input>`, each with the name that it is uploaded under. A folder's have their path. */
export function chosen(input) {
  return Array.from(input.files, (file) => ({ file, name: file.webkitRelativePath || file.name }));
}

/** The files of a drop. What a drop holds has to be taken at once: it is gone after the event. */
export async function dropped(transfer) {
  const entries = Array.from(transfer.items ?? [], (item) => (item.kind === "file" ? item.webkitGetAsEntry?.() : null));
  if (!entries.some(Boolean)) return Array.from(transfer.files, (file) => ({ file, name: file.name }));
  const found = [];
  for (const entry of entries) if (entry) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  const name = folder + entry.name;
  if (entry.isFile) {
    found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A reader gives a hundred at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const one of some) await walk(one, `${name}/`, found);
  }
}

/**
 * The unfinished upload that a file belongs to. A file that is chosen alone has no path: its name is the last of the entry's.
 */
export function match(entries, { file, name }) {
  const same = entries.filter((entry) => entry.size === file.size && entry.lastModified === file.lastModified);
  return (
    same.find((entry) => entry.name === name) ??
    (name.includes("/") ? undefined : same.find((entry) => entry.name.split("/").at(-1) === name))
  );
}
