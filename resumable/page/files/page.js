// The page: what was chosen becomes rows, what a former visit left is asked for again.

import { unfinished } from "../resumable.js";
import { chosen, dropped, match } from "./files.js";
import { Queue } from "./queue.js";
import { Row, button, element } from "./row.js";
import { duration, percent, size } from "./words.js";

const AT_A_TIME = 2;

const endpoint = new URL(".", location.href);
const queue = new Queue(AT_A_TIME);
const at = (id) => document.getElementById(id);
const list = (id) => at(id).querySelector(".rows");
let rows = [];
let left = [];
/** The unfinished upload whose file is being asked for. */
let wanted = null;

function say(text, { alarm = false } = {}) {
  at(alarm ? "alarm" : "said").textContent = text;
}

// What was chosen

function add(found) {
  const more = [];
  const others = [];
  for (const one of found) {
    const entry = match(left, one);
    const name = entry?.name ?? one.name;
    const twin = [...rows, ...more].find((row) => !row.done && row.name === name);
    if (twin) {
      // It is under way; another file of that name would take its place, or be taken for it.
      if (twin.total !== one.file.size || twin.file.lastModified !== one.file.lastModified) others.push(name);
      continue;
    }
    left = left.filter((other) => other !== entry);
    more.push(new Row({ file: one.file, name, queue, changed, removed, endpoint }));
  }
  rows.push(...more);
  list("uploads").append(...more.map((row) => row.element));
  at("others").hidden = others.length === 0;
  at("others").textContent =
    others.length === 0
      ? ""
      : `Not uploaded: ${others.join(", ")}. Another file of that name is under way: wait for it or cancel it, or rename yours.`;
  if (found.length === 0) say("There is no file in what you chose.", { alarm: true });
  else say(`${more.length} ${more.length === 1 ? "file is" : "files are"} being uploaded.`);
  showUnfinished();
  paint();
}

function changed(row, error) {
  if (error) say(`${row.name} was not uploaded. ${row.wrong.textContent}`, { alarm: true });
  else if (row.state === "finished") say(`${row.name} is uploaded.`);
  else if (row.state === "waiting") say(`${row.name} waits for the service.`);
  if (row.state === "finished") showStored();
  paint();
}

function removed(row) {
  const index = rows.indexOf(row);
  if (index < 0) return;
  const focused = row.element.contains(document.activeElement);
  rows.splice(index, 1);
  row.element.remove();
  paint();
  if (row.state === "cancelled") say(`${row.name} is cancelled.`);
  // Whoever has pressed a button that is gone goes on from the next line, not from the top of the page.
  if (focused) (rows[index]?.element ?? rows[index - 1]?.element ?? at("choose-files")).focus();
}

function paint() {
  at("uploads").hidden = rows.length === 0;
  at("clear").hidden = !rows.some((row) => row.state === "finished");
  const total = rows.reduce((sum, row) => sum + row.total, 0);
  const sent = rows.reduce((sum, row) => sum + row.sent, 0);
  const speed = rows.reduce((sum, row) => sum + row.speed, 0);
  const finished = rows.filter((row) => row.state === "finished").length;
  const rest = speed > 0 ? ` · ${size(speed)}/s · ${duration((total - sent) / speed)} left` : "";
  const text = `${finished} of ${rows.length} uploaded · ${size(sent)} of ${size(total)} (${percent(sent, total)})${rest}`;
  if (at("overall").textContent !== text) at("overall").textContent = text;
}

// What a former visit left

async function findUnfinished() {
  const found = unfinished(endpoint);
  const alive = await Promise.all(found.map(look));
  left = alive.filter((entry) => entry !== null && !rows.some((row) => row.name === entry.name && row.total === entry.size));
  showUnfinished();
  if (left.length > 0) say(`${left.length} ${left.length === 1 ? "upload is" : "uploads are"} unfinished. Choose the files to go on.`);
}

/** Return the entry with what is stored of it; null for one that has ended meanwhile, which is then forgotten. */
async function look(entry) {
  try {
    const answer = await fetch(entry.url);
    const shown = await answer.json();
    if (answer.status === 404 || answer.status === 410 || shown.state === "finished") {
      localStorage.removeItem(entry.key);
      return null;
    }
    const stored = (shown.stored ?? []).reduce((sum, [first, last]) => sum + last + 1 - first, 0);
    return answer.ok ? { ...entry, stored } : entry;
  } catch {
    return entry; // the service is away: nobody knows
  }
}

function showUnfinished() {
  at("unfinished").hidden = left.length === 0;
  list("unfinished").replaceChildren(...left.map(unfinishedRow));
}

function unfinishedRow(entry) {
  const row = element("li");
  const actions = element("div", "actions");
  const far = entry.stored === undefined ? "" : ` · ${percent(entry.stored, entry.size)} is stored`;
  const wrong = element("p", "error");
  const ask = button("Choose the file", entry.name, () => {
    wanted = { entry, wrong };
    at("again").click();
  });
  const end = button("Discard", entry.name, () => discard(entry, wrong));
  actions.append(ask, end);
  row.append(element("span", "name", entry.name), actions, element("p", "detail", `${size(entry.size)}${far}`), wrong);
  return row;
}

async function discard(entry, wrong) {
  try {
    const answer = await fetch(entry.url, { method: "DELETE" });
    if (!answer.ok && ![404, 409, 410].includes(answer.status)) throw new Error(`the service answered ${answer.status}`);
  } catch (error) {
    wrong.textContent = `It could not be discarded: ${error.message}. Try again later.`;
    return;
  }
  localStorage.removeItem(entry.key);
  left = left.filter((other) => other !== entry);
  showUnfinished();
  say(`${entry.name} is discarded.`);
  (list("unfinished").querySelector("button") ?? at("choose-files")).focus();
}

function goOn() {
  const { entry, wrong } = wanted;
  const [one] = chosen(at("again"));
  at("again").value = "";
  if (!one) return;
  if (match([entry], { ...one, name: entry.name }) === undefined || one.name !== entry.name.split("/").at(-1)) {
    const when = entry.lastModified === null ? "" : `, last changed ${new Date(entry.lastModified).toLocaleString()}`;
    wrong.textContent = `That is another file, or it has changed. The upload was begun with ${entry.name}: ${size(entry.size)}${when}.`;
    say(wrong.textContent, { alarm: true });
    return;
  }
  add([{ file: one.file, name: entry.name }]);
}

// What is stored, where the service shows it

async function showStored() {
  if (document.body.dataset.stored !== "yes") return;
  try {
    const { uploads } = await (await fetch("page/stored")).json();
    at("stored").hidden = uploads.length === 0;
    list("stored").replaceChildren(
      ...uploads.map((upload) => {
        const row = element("li");
        const link = element("a", "name", upload.name);
        link.href = upload.url;
        link.rel = "noreferrer";
        row.append(link, element("span", "detail", size(upload.size)));
        return row;
      }),
    );
  } catch {
    // The service is away; the next upload that is finished asks again.
  }
}

// What people do

function network() {
  at("offline").hidden = navigator.onLine;
  for (const row of rows) row.paint();
}

for (const [press, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
  at(press).addEventListener("click", () => at(input).click());
  at(input).addEventListener("change", () => {
    const found = chosen(at(input));
    at(input).value = "";
    add(found);
  });
}
at("choose-folder").hidden = !("webkitdirectory" in at("folder"));
at("again").addEventListener("change", goOn);
at("clear").addEventListener("click", () => {
  for (const row of rows.filter((one) => one.state === "finished")) removed(row);
  at("choose-files").focus();
});

let inside = 0;
addEventListener("dragenter", (event) => {
  event.preventDefault();
  inside++;
  document.body.classList.add("dragging");
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("dragleave", () => {
  inside = Math.max(0, inside - 1);
  if (inside === 0) document.body.classList.remove("dragging");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dragging");
  try {
    add(await dropped(event.dataTransfer));
  } catch (error) {
    say(`What you dropped cannot be read: ${error.message}`, { alarm: true });
  }
});
addEventListener("beforeunload", (event) => {
  if (rows.some((row) => row.busy)) event.preventDefault();
});
addEventListener("online", network);
addEventListener("offline", network);

network();
findUnfinished();
showStored();
