import { defineSchema, json, open } from "rejoin";
import type { Row } from "rejoin";
import type { Server } from "../server.ts";

/** The fields of a Debian package index, in the order in which the details show them. */
export const FIELDS = [
  "Version",
  "Section",
  "Priority",
  "Architecture",
  "Installed-Size",
  "Size",
  "Maintainer",
  "Original-Maintainer",
  "Homepage",
  "Source",
  "Essential",
  "Multi-Arch",
  "Tag",
  "Task",
  "Depends",
  "Pre-Depends",
  "Recommends",
  "Suggests",
  "Enhances",
  "Provides",
  "Conflicts",
  "Breaks",
  "Replaces",
  "Filename",
  "MD5sum",
  "SHA256",
  "Description-md5",
] as const;

type Name = "Package" | "Description" | (typeof FIELDS)[number];

// Whoever imports decides what a field holds: text or a number is shown as it comes.
const fields = Object.fromEntries(
  ["Package", "Description", ...FIELDS].map((name) => [
    name,
    json<string | number>().from(name.toLowerCase().replaceAll("-", "_")),
  ]),
) as { readonly [N in Name]: ReturnType<typeof json<string | number>> };

export const schema = defineSchema({ packages: fields });

export type Package = Row<typeof schema.packages>;

export const openCatalog = (server: Server) =>
  open({
    name: `rejoin-demo/${server.space}/catalog`,
    schema,
    sync: { url: server.url, space: server.space },
  });

export type Catalog = Awaited<ReturnType<typeof openCatalog>>;

/** What a package is called; its key if the import left the name out. */
export const nameOf = (item: Package): string => String(item.Package ?? item.id);

/** The first line of a description is its summary. */
export function summaryOf(item: Package): string {
  const text = String(item.Description ?? "");
  const end = text.indexOf("\n");
  return end < 0 ? text : text.slice(0, end);
}
