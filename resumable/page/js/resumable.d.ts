/** `paused` and `waiting` are left by `resume()`; the last three are final until `start()` is called again. */
export type State = "idle" | "starting" | "uploading" | "paused" | "waiting" | "finished" | "cancelled" | "failed";

/** Bytes: confirmed by the service, confirmed or under way, and all of the file. */
export interface Progress {
  stored: number;
  sent: number;
  total: number;
}

/** Where uploads are remembered. The values are texts. */
export interface Store {
  get(key: string): string | null | undefined | Promise<string | null | undefined>;
  set(key: string, value: string): void | Promise<void>;
  remove(key: string): void | Promise<void>;
}

type HeaderValues = Record<string, string> | Headers;

export interface Options {
  /** The service's root. Default: where the module came from. */
  endpoint?: string | URL;
  /** Of the upload. Default: the file's. */
  name?: string;
  /** Sent with each request. A function is called before each, and once more after a 401. */
  headers?: HeaderValues | (() => HeaderValues | Promise<HeaderValues>);
  /** Whether cookies go with the requests to another origin. Default: false. */
  withCredentials?: boolean;
  /** How many requests bring ranges at the same time. Default: 1. */
  connections?: number;
  /** Milliseconds between tries. Progress begins them anew; while offline none is used up. */
  retryDelays?: number[];
  onProgress?(progress: Progress): void;
  onStateChange?(state: State): void;
  /** Default: localStorage. */
  store?: Store;
}

/** What `GET /uploads/<id>` shows of a finished upload. The application may have answered something else in its place. */
export interface Result {
  id: string;
  state: "finished";
  protocol: string;
  owner: string;
  name: string;
  size: number;
  bucket: string;
  key: string;
  etag: string;
  checksum: { crc32c?: string };
  content_type: string | null;
  metadata: Record<string, string>;
  created: string;
  finished: string;
}

export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  [more: string]: unknown;
}

export class UploadError extends Error {
  constructor(message: string, status?: number, problem?: Problem | null);
  /** Of the answer; 0 where none came. */
  readonly status: number;
  readonly problem: Problem | null;
  /** Milliseconds after which the service wants to be asked again; 0 where it said nothing. */
  readonly retryAfter: number;
}

export class Upload<R = Result> {
  constructor(file: Blob, options?: Options);
  readonly state: State;
  /** The upload's URL, once it has one. */
  readonly url: string | null;
  /** Rejects with `UploadError`, or with an `AbortError` after `cancel()`. */
  start(): Promise<R>;
  pause(): void;
  resume(): void;
  cancel(): Promise<void>;
}

export interface Unfinished {
  key: string;
  url: string;
  endpoint: string;
  name: string;
  size: number;
  lastModified: number | null;
  /** Of the bytes at both ends of the file. */
  digest: string;
  begun: number;
  expires: string | null;
}

/** The uploads in localStorage that were begun and have not ended, the newest first. */
export function unfinished(endpoint?: string | URL): Unfinished[];
