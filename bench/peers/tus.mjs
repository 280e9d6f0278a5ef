// @tus/server with its S3 store, as its README starts it.
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const datastore = new S3Store({
  s3ClientConfig: {
    bucket: process.env.S3_BUCKET,
    endpoint: process.env.S3_ENDPOINT,
    forcePathStyle: true,
    region: process.env.AWS_REGION,
    credentials: {
      accessKeyId: process.env.AWS_ACCESS_KEY_ID,
      secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    },
  },
});

new Server({ path: "/files", datastore }).listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
