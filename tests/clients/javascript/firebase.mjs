// @firebase/storage, driven from outside (orders.mjs): in Node, or, where argv[2] names a browser, in a page.
//
// {"chromium": its path, or null
//  "profile":  the browser's directory
//  "page":     the URL of firebase.html
//  "client":   what the client is given: {"host", "port", "bucket", "film"}}

import { hurry } from "./hurry.mjs";
import { obey } from "./orders.mjs";

const { chromium, profile, page, client } = JSON.parse(process.argv[2]);

async function inNode() {
  const { ordersFor } = await import("./firebase-orders.mjs");
  hurry(20);
  return ordersFor(client);
}

async function inPage() {
  const browser = await import("playwright-core");
  const context = await browser.chromium.launchPersistentContext(profile, {
    executablePath: chromium,
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  process.once("SIGTERM", () => context.close().finally(() => process.exit(0)));
  const [opened] = context.pages();
  opened.on("pageerror", (error) => console.error(String(error)));
  await opened.goto(`${page}#${encodeURIComponent(JSON.stringify(client))}`);
  await opened.waitForFunction(() => window.orders);
  const call = async ([name, given]) => {
    const orders = await window.orders;
    return Promise.resolve()
      .then(() => orders[name](...given))
      .then((value) => ({ value: value ?? null }), ({ name, code, message, serverResponse }) => ({ failed: { name, code, message: `${message} ${serverResponse ?? ""}` } }));
  };
  const order = async (name, ...given) => {
    const { value, failed } = await opened.evaluate(call, [name, given]);
    if (failed !== undefined) throw failed;
    return value;
  };
  // `then` is looked for by whoever awaits this.
  return new Proxy({}, { get: (_, name) => (name === "then" ? undefined : (...given) => order(name, ...given)) });
}

await obey(chromium === null ? await inNode() : await inPage());
process.exit(0);
