// Uppy in headless Chromium, driven from outside: argv[2] is a JSON description of what to do.
//
// {"chromium":  its path
//  "profile":   the browser's directory: what it remembers is there, also the next time
//  "page":      the URL of uppy.html
//  "options":   of Uppy's plugin Tus
//  "file":      the path of the file to choose
//  "seconds":   after which it gives up}
//
// The last line of the output: {"outcome": "success" | "error" | "stopped", "url", "error"}. Meanwhile each line of the input
// is done: "offline", "the request failed" (wait for that of the moment at which the browser went offline), "online",
// "cancel" (and wait until the service has answered); each is answered by {"did": …}. And "stop": close the browser.

import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const task = JSON.parse(process.argv[2]);

function say(what) {
  return new Promise((said) => process.stdout.write(`${JSON.stringify(what)}\n`, said));
}

const context = await chromium.launchPersistentContext(task.profile, {
  executablePath: task.chromium,
  headless: true,
  timeout: task.seconds * 1000,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
context.setDefaultTimeout(task.seconds * 1000);

const page = context.pages()[0] ?? (await context.newPage());
page.on("pageerror", (error) => console.error(String(error)));
page.on("console", (message) => console.error(message.text()));

let failed = null;
let stopping = false;

const orders = {
  async offline() {
    failed = page.waitForEvent("requestfailed");
    await context.setOffline(true);
  },
  "the request failed": () => failed,
  online: () => context.setOffline(false),
  async cancel() {
    const answered = page.waitForResponse((response) => response.request().method() === "DELETE");
    await page.evaluate(() => window.uppy.cancelAll());
    await answered;
  },
  async stop() {
    stopping = true;
    await context.close();
    await say({ outcome: "stopped", url: null, error: null });
    process.exit(0);
  },
};

createInterface({ input: process.stdin }).on("line", async (order) => {
  await orders[order]();
  await say({ did: order });
});

try {
  await page.goto(`${task.page}#${encodeURIComponent(JSON.stringify(task.options))}`);
  await page.setInputFiles("#file", task.file);
  await page.waitForFunction(() => window.outcome !== undefined);
  const outcome = await page.evaluate(() => window.outcome);
  await context.close();
  await say(outcome);
  process.exit(0);
} catch (error) {
  if (!stopping) {
    console.error(String(error));
    await context.close();
    process.exit(1);
  }
}
