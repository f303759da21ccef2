// The gate: nothing is shown before the token is.

import { PATIENCE_MS, Refused, ask, excuse } from "./asking.js";
import { h, main, replace, s } from "./elements.js";
import { TOKEN, known } from "./state.js";

/** Asks for the token; `open` follows once there is one. */
export function gate(open, reason) {
  document.title = "Rejoin admin";
  const problem = h("p", { class: "problem", role: "alert", id: "gate-problem" }, reason ?? "");
  problem.hidden = !reason;
  const input = h("input", {
    ...{ id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" },
    "aria-describedby": "gate-problem",
  });
  const button = h("button", { type: "submit" }, "Open");
  const complain = (text) => {
    problem.textContent = text;
    problem.hidden = false;
  };
  const form = h(
    "form",
    {
      async onsubmit(event) {
        event.preventDefault();
        known.token = input.value.trim();
        // A header has no room for other characters.
        if (!/^[\x21-\x7e]+$/u.test(known.token)) return complain("That is no token.");
        button.disabled = true;
        button.textContent = "Opening…";
        problem.hidden = true;
        try {
          await ask("rates", { after: 0 }, AbortSignal.timeout(PATIENCE_MS));
          sessionStorage.setItem(TOKEN, known.token);
          open();
        } catch (error) {
          known.token = null;
          if (error instanceof Refused && error.status === 401) complain("This is not the token.");
          else if (error instanceof Refused && error.status === 429)
            complain(`Too many wrong tokens: try again in ${error.wait ?? 6} seconds.`);
          else complain(`Not opened: ${excuse(error)}.`);
          button.disabled = false;
          button.textContent = "Open";
          input.select();
        }
      },
    },
    h("div", null, h("label", { for: "token" }, "Admin token"), input),
    problem,
    button,
  );
  const mark = s(
    "svg",
    { viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("path", { d: "M5 8c8 0 8 16 22 8M5 24c8 0 8-16 22-8" }),
  );
  replace(
    main,
    h(
      "section",
      { class: "card gate", "aria-labelledby": "gate-title" },
      h("h1", { id: "gate-title" }, mark, "Rejoin admin"),
      h(
        "p",
        { class: "soft" },
        "Shows how this server is. Nothing can be changed here, and no values of records are shown.",
      ),
      form,
      h(
        "p",
        { class: "soft small" },
        "The token is in the file that --admin-token-file names. It stays in this tab.",
      ),
    ),
  );
  input.focus();
}
