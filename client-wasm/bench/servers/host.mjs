// `node host.mjs NAME FOLDER`: runs a server module, and answers how many records it holds.
//
// A module has `start(folder)`, which gives `port`, `url` (with PORT for the port), and `held()`.

const [name, folder] = process.argv.slice(2);
const { start } = await import(`./${name}.mjs`);
const { port, url, held } = await start(folder);
process.on("message", async () => process.send({ held: await held() }));
process.on("disconnect", () => process.exit());
process.send({ port, url });
