// A page in headless Chromium, driven from outside. argv[2]: {"chromium", "profile", "seconds"}. Each line of the input is an order,
// [name, ...arguments], and is answered by a line: {"did": name, "value"} or {"failed": why}.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const task = JSON.parse(process.argv[2]);
const context = await chromium.launchPersistentContext(task.profile, {
  executablePath: task.chromium,
  headless: true,
  timeout: task.seconds * 1000,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
context.setDefaultTimeout(task.seconds * 1000);
/** What a page must not do: fail, or load what its policy forbids. */
const wrong = [];
function watched(tab) {
  tab.on("pageerror", (error) => wrong.push(String(error)));
  tab.on("console", (message) => {
    // A refused request is logged by the browser itself.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(message.text());
  });
  tab.on("dialog", (dialog) => dialog.accept());
  return tab;
}
const tabs = [watched(context.pages()[0] ?? (await context.newPage()))];
/** The tab that orders are for. */
let [page] = tabs;

const row = (name) => page.locator("#uploads .rows > li").filter({ has: page.locator(".name", { hasText: name }) });

const orders = {
  open: (url) => page.goto(url),
  reload: () => page.reload(),
  choose: (paths, input = "#files") => page.setInputFiles(input, paths),
  press: (name) => page.getByRole("button", { name, exact: true }).click(),
  key: (key) => page.keyboard.press(key),
  focused: () => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent),
  // Choose a file in answer to a button that asks for one.
  async answer(name, path) {
    const asked = page.waitForEvent("filechooser");
    await page.getByRole("button", { name, exact: true }).click();
    await (await asked).setFiles(path);
  },
  drop: (files) =>
    page.evaluate((given) => {
      const transfer = new DataTransfer();
      for (const { name, text, lastModified } of given) transfer.items.add(new File([text], name, { lastModified }));
      document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }, files),
  // What a file manager drops: files and folders, by their paths.
  async "drop paths"(paths) {
    const box = await page.locator("#drop").boundingBox();
    const client = await context.newCDPSession(page);
    for (const type of ["dragEnter", "dragOver", "drop"]) {
      const data = { items: [], files: paths, dragOperationsMask: 1 };
      await client.send("Input.dispatchDragEvent", { type, x: box.x + 5, y: box.y + 5, data });
    }
    await client.detach();
  },
  async tab(url) {
    tabs.push((page = watched(await context.newPage())));
    await page.goto(url);
  },
  async "close tab"() {
    await tabs.pop().close();
    page = tabs.at(-1);
  },
  state: (name, state) => row(name).and(page.locator(`[data-state="${state}"]`)).waitFor(),
  gone: (name) => row(name).waitFor({ state: "detached" }),
  row: (name) => row(name).innerText(),
  see: (selector) => page.locator(selector).first().waitFor({ state: "visible" }),
  text: (selector) => page.locator(selector).innerText(),
  count: (selector) => page.locator(selector).count(),
  href: (selector) => page.locator(selector).first().evaluate((link) => link.href),
  offline: (away) => context.setOffline(away),
  async shot(path, width, scheme) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: scheme });
    await page.screenshot({ path, fullPage: true });
    return page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  },
  // What axe-core finds: it is run outside the page's own policy, once in each page that is opened.
  async axe(path) {
    if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(await readFile(path, "utf8"));
    const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
    return violations.map(({ id, impact, nodes }) => [id, impact, nodes.map(({ html }) => html).slice(0, 3)]);
  },
  wrong: () => wrong,
};

console.log(JSON.stringify({ did: "start" }));
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  if (name === "stop") break;
  try {
    const value = await orders[name](...given);
    console.log(JSON.stringify({ did: name, value: typeof value === "object" && !Array.isArray(value) ? null : value }));
  } catch (error) {
    console.log(JSON.stringify({ failed: String(error) }));
  }
}
await context.close();
process.exit(0);
