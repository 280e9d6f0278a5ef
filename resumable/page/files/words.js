// What people read: sizes, times, and what went wrong.

const UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"];

/** Bytes, in powers of 1000 as browsers show them. The space between number and unit is one that no line ends at. */
export function size(bytes) {
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), UNITS.length - 1);
  const value = bytes / 1000 ** power;
  return `${value.toLocaleString("en", { maximumFractionDigits: power === 0 || value >= 100 ? 0 : 1 })}\u00a0${UNITS[power]}`;
}

/** Seconds, roughly. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.ceil(seconds))} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.round(seconds / 86400)} days`;
}

export function percent(part, whole) {
  return `${whole === 0 ? 100 : Math.floor((100 * part) / whole)}%`;
}

const ADVICE = {
  400: ["The service cannot take this upload.", "Rename the file, if the message is about its name, and try again."],
  401: ["You are not signed in.", "Sign in to the application in another tab, then press “Try again”."],
  403: ["You may not upload this.", "Ask whoever runs the service for the right to, then press “Try again”."],
  404: ["The service does not know this upload.", "Press “Try again”: it begins anew."],
  409: ["The upload cannot go on.", "Press “Try again”: the file as it is now is uploaded from its beginning."],
  410: ["The upload has ended.", "Press “Try again”: it begins anew."],
  412: ["There is a file of this name already.", "Rename the file and choose it again."],
  413: ["The file is too large.", "Choose a smaller file, or ask whoever runs the service for a higher limit."],
  415: ["Files of this type are not taken.", "Choose another file."],
};

/** What went wrong, what was said, and what to do. */
export function explain(error) {
  const { status = 0, message } = error;
  if (status === 0) return `${message}\nPress “Try again” when that is mended; what is stored is kept.`;
  const known = ADVICE[status];
  const [what, advice] = known ?? [
    `The service answered ${status}.`,
    status >= 500 ? "Press “Try again” later; what is stored is kept." : "Ask whoever runs the service.",
  ];
  const said = error.problem?.detail ? `${status === 401 || status === 403 ? "The application" : "The service"} says: ${error.problem.detail}` : "";
  return [`${what} (${status})`, said, advice].filter(Boolean).join("\n");
}
