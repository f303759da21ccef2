// PouchDB Server's own engine, express-pouchdb, over LevelDB, as its README starts it; with the answers that CORS needs,
// which a browser may remember.

import { once } from "node:events";
import { sep } from "node:path";
import express from "express";
import expressPouchdb from "express-pouchdb";
import PouchDB from "pouchdb";

const DATABASE = "bench";

export async function start(folder) {
  const Databases = PouchDB.defaults({ prefix: folder + sep });
  const database = new Databases(DATABASE);
  await database.info();
  const app = express();
  app.use((request, response, next) => {
    response.set({
      "access-control-allow-origin": request.headers.origin ?? "*",
      "access-control-allow-credentials": "true",
      "access-control-allow-headers": "content-type, accept",
      "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE",
      "access-control-max-age": "7200",
    });
    if (request.method === "OPTIONS") response.status(204).end();
    else next();
  });
  const settings = {
    mode: "minimumForPouchDB",
    inMemoryConfig: true,
    logPath: `${folder}${sep}log`,
  };
  app.use("/", expressPouchdb(Databases, settings));
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: server.address().port,
    url: `http://127.0.0.1:PORT/${DATABASE}`,
    held: async () => (await database.info()).doc_count,
  };
}
