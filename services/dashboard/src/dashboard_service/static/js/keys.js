// The keyboard. What each key does stands in the dialog that `?` opens.

const PAGES = { o: "/", l: "/operations", q: "/queues", w: "/workers", d: "/dead-letters", a: "/alerts", u: "/audit" };
const SEQUENCE_MS = 1500;
const ROWS = "tr.operation, .letter-list > li, .worker, .alert";

/** `chooser` and `pause` belong to the list of operations; other pages have none. */
export function startKeys({ chooser, pause }) {
  const help = document.getElementById("keys");
  let sequence = 0;
  const actions = {
    "?": () => help.showModal(),
    "/": () => focus("input[type=search]"),
    f: () => focus("input[name=filter]"),
    j: () => move(1),
    k: () => move(-1),
    x: () => chooser?.toggle(current()),
    X: () => chooser?.chooseShown(),
    c: () => chooser?.act("cancel"),
    r: () => chooser?.act("replay"),
    d: () => chooser?.act("discard"),
    p: () => pause?.click(),
    g: () => (sequence = Date.now()),
  };
  document.querySelector("[data-keys]").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches("input:not([type=checkbox], [type=radio]), textarea, select");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else chooser?.clear();
      return;
    }
    if (typing) return;
    const follows = Date.now() - sequence < SEQUENCE_MS;
    sequence = 0;
    if (follows && PAGES[event.key]) {
      event.preventDefault();
      location.assign(PAGES[event.key]);
    } else if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  });
}

function focus(selector) {
  document.querySelector(selector)?.focus();
}

function current() {
  return document.activeElement?.closest(ROWS) ?? null;
}

/** The focus goes to the link of the next row that is shown, or of the first. */
function move(step) {
  const rows = [...document.querySelectorAll(ROWS)].filter((row) => !row.hidden);
  const index = rows.indexOf(current());
  const next = rows[index < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, index + step))];
  next?.querySelector("a, button")?.focus();
}
