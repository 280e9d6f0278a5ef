// @uploadx/core with @uploadx/s3, on Node's own HTTP server.
import { createServer } from "node:http";
import { uploadx } from "@uploadx/core";
import { S3Storage } from "@uploadx/s3";

const storage = new S3Storage({
  bucket: process.env.S3_BUCKET,
  endpoint: process.env.S3_ENDPOINT,
  forcePathStyle: true,
  region: process.env.AWS_REGION,
  credentials: {
    accessKeyId: process.env.AWS_ACCESS_KEY_ID,
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
  },
  allowMIME: ["*/*"],
  maxUploadSize: "5TB",
  filename: (file) => file.originalName,
});

const handle = uploadx({ storage, path: "/files", allowMIME: ["*/*"], maxUploadSize: "5TB" });
// Node ends a request after five minutes by default; slow uploads take longer.
createServer({ requestTimeout: 0 }, handle).listen(Number(process.env.PORT), "127.0.0.1");

// Without this the process ends when a client breaks off: nobody listens for the error of the request's body.
process.on("uncaughtException", (error) => console.error(error));
