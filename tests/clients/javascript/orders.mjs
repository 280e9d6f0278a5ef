// Orders from outside: each line of the input is [ticket, name, ...what it is given], and is done at once, whatever else is being done.
// When it is done a line comes back: {"ticket", "value"} or {"ticket", "failed": {"name", "code", "message"}}. The input's end ends it.

import { createInterface } from "node:readline";

/** Do what `orders` (an object of functions) has, until the input ends. */
export async function obey(orders) {
  console.log(JSON.stringify({ ticket: 0, value: null }));
  for await (const line of createInterface({ input: process.stdin })) {
    const [ticket, name, ...given] = JSON.parse(line);
    Promise.resolve()
      .then(() => orders[name](...given))
      .then(
        (value) => ({ ticket, value: value ?? null }),
        ({ name, code, message }) => ({ ticket, failed: { name: name ?? null, code: code ?? null, message } }),
      )
      .then((said) => console.log(JSON.stringify(said)));
  }
}
