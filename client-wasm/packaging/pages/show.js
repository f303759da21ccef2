// Opens a database of the package `rejoin`, shows what is in it, and offers to write.

/** `options` are those of `open` beside the name and the schema. */
export async function show({ defineSchema, open, text }, options = {}) {
  const schema = defineSchema({ tasks: { title: text() } });
  const db = await open({ name: "outside", schema, ...options });
  db.tasks.live().subscribe((tasks) => {
    const items = tasks.map(({ title }) => {
      const item = document.createElement("li");
      item.textContent = title;
      return item;
    });
    document.querySelector("ul").replaceChildren(...items);
    document.body.dataset.rows = String(tasks.length);
  });
  window.app = { write: (title) => db.tasks.add({ title }) };
}
