// How the server is, at a glance: what is wrong first.

import { ask } from "./asking.js";
import { CHARTS, chart } from "./charts.js";
import { badge, h, name, replace } from "./elements.js";
import { bytes, count, millis, rate, span, when } from "./numbers.js";
import { CLIENTS, LIST_MS, bones, card, empty, every, finding, head, table, to } from "./parts.js";
import { heard, known } from "./state.js";
import { entry } from "./stories.js";

export function overview(view, _query, signal) {
  const findings = h("ul", { class: "findings", "aria-label": "What is wrong" });
  const title = h("div");
  const figures = h("dl", { class: "figures card" });
  const charts = CHARTS.map(chart);
  const storage = h("div");
  const probes = h("div");
  const behind = h("div");
  const followers = h("div");
  const conflicts = h("div");
  const refusals = h("div");
  const rest = h(
    "div",
    { class: "view" },
    figures,
    behind,
    h(
      "div",
      { class: "charts" },
      charts.map(({ box }) => box),
    ),
    h("div", { class: "two" }, conflicts, refusals),
    h("div", { class: "two" }, storage, probes),
    followers,
  );
  const waiting = bones();
  view.append(title, findings, waiting, rest);
  rest.hidden = true;

  const draw = () => {
    const told = known.overview;
    if (!told) return;
    waiting.hidden = true;
    rest.hidden = false;
    replace(
      title,
      head("Overview", [
        `version ${told.version} · running for ${span(told.now - told.started)} · access: ${told.access}`,
      ]),
    );
    const found = told.findings.map(({ level, what, detail }) => finding(level, what, detail));
    const wrong = told.findings.some(({ level }) => level !== "note");
    const good = finding(
      "good",
      "Nothing is wrong",
      "It takes writes, nobody is far behind, and there is room on the disk.",
    );
    replace(findings, wrong ? found : [good, ...found]);
    const last = known.samples.at(-1) ?? {};
    const { traffic, storage: disk } = told;
    const figure = (label, value, more) =>
      h(
        "div",
        null,
        h("dt", null, label),
        h("dd", null, value, more && [" ", h("small", null, more)]),
      );
    replace(
      figures,
      figure("Writes", rate(last.accepted), "per s"),
      figure("Connections", count(traffic.connections), `${count(traffic.sessions.live)} live`),
      figure("Spaces", count(told.spaces.all), `${count(told.spaces.open)} open`),
      figure("Commit", millis(traffic.commit_ms || undefined)),
      figure("Conflicts", count(traffic.conflicts), "since start"),
      figure("Disk free", bytes(disk.disk_free_bytes)),
    );
    for (const { draw } of charts) draw();
    replace(
      behind,
      traffic.behind.length > 0 &&
        card(
          "Furthest behind",
          "for more than 5 s",
          table("Clients furthest behind", CLIENTS, traffic.behind),
        ),
    );
    behind.hidden = traffic.behind.length === 0;
    const fact = (label, value) => [h("dt", null, label), h("dd", null, value)];
    replace(
      storage,
      card(
        "Storage",
        null,
        h(
          "dl",
          { class: "facts" },
          fact("Database", bytes(disk.database_bytes)),
          fact("Write-ahead log", bytes(disk.log_bytes)),
          fact(
            "Free on the disk",
            `${bytes(disk.disk_free_bytes)} (${bytes(disk.disk_free_min_bytes)} is the least)`,
          ),
          fact("Last backup", disk.backup ? when(disk.backup) : "never"),
          fact("Lines of the log lost", count(disk.log_lines_dropped)),
        ),
      ),
    );
    const probe = ({ ok, reason }) =>
      ok ? badge("yes", "good") : [badge("no", "bad"), " ", reason];
    replace(
      probes,
      card(
        "Health",
        null,
        h(
          "dl",
          { class: "facts" },
          fact("Alive", probe(told.probes.live)),
          fact("Ready", probe(told.probes.ready)),
          fact(
            "Commit, wait for sockets",
            [traffic.commit_ms, traffic.wait_ms].map((ms) => millis(ms || undefined)).join(", "),
          ),
          fact(
            "Opening, syncing, live",
            [traffic.sessions.opening, traffic.sessions.syncing, traffic.sessions.live]
              .map(count)
              .join(", "),
          ),
          fact("Connections beyond a limit", count(traffic.connections_refused)),
        ),
      ),
    );
    followers.hidden = told.followers.length === 0;
    replace(
      followers,
      card(
        "Tables and webhooks",
        null,
        table(
          "Tables and webhooks",
          [
            ["Name", (one) => name(one.name), "name"],
            ["Kind", (one) => one.kind, ""],
            ["Behind by", (one) => count(one.lag), "number"],
            ["Failures", (one) => count(one.failures), "number"],
          ],
          told.followers,
        ),
      ),
    );
  };
  const drawEvents = async () => {
    const recent = (kind) => ask("events", { class: kind, limit: 5 }, signal);
    try {
      const [conflict, refusal] = await Promise.all([recent("conflict"), recent("refusal")]);
      const list = (found, none) =>
        found.events.length ? h("ol", { class: "events" }, found.events.map(entry)) : empty(none);
      replace(
        conflicts,
        card(
          "Last conflicts",
          to("events", { class: "conflict" }, "all"),
          list(conflict, "No two writes have met without knowing each other."),
        ),
      );
      replace(
        refusals,
        card(
          "Last refusals",
          to("events", { class: "refusal" }, "all"),
          list(refusal, "Nothing was refused."),
        ),
      );
    } catch {
      // The line above says that the server is away.
    }
  };
  heard.addEventListener("overview", draw, { signal });
  every(LIST_MS, drawEvents, signal);
  draw();
}
