import type { ComponentChildren } from "preact";

export function Masthead({
  page,
  children,
}: {
  page: "tasks" | "catalog";
  children?: ComponentChildren;
}) {
  // The server that was chosen by address stays chosen.
  const { search } = location;
  const here = (name: string) => (name === page ? { "aria-current": "page" as const } : {});
  return (
    <header class="masthead">
      <a class="brand" href={`./${search}`} aria-label="Rejoin">
        <img src="./icon.svg" alt="" width="26" height="26" />
        <span class="brand-name">Rejoin</span>
      </a>
      <nav aria-label="Pages">
        <a href={`./${search}`} {...here("tasks")}>
          Tasks
        </a>
        <a href={`./catalog.html${search}`} {...here("catalog")}>
          Catalog
        </a>
      </nav>
      <div class="end">{children}</div>
    </header>
  );
}

export function Failed({ error }: { error: unknown }) {
  const { message, code } = error as { message?: string; code?: string };
  return (
    <main class="failed" data-testid="failed" aria-live="assertive">
      <h1>The local database could not be opened</h1>
      <p>{message ?? String(error)}</p>
      {code !== undefined && (
        <p class="quiet">
          Code <code>{code}</code>. Nothing that was saved is lost.
        </p>
      )}
      <button type="button" class="button primary" onClick={() => location.reload()}>
        Try again
      </button>
    </main>
  );
}
