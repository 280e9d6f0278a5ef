/** Have all pauses of the client, between its tries too, be so many times as short. */
export function hurry(times) {
  const patient = globalThis.setTimeout;
  globalThis.setTimeout = (call, delay = 0, ...given) => patient(call, delay / times, ...given);
}
