// The table of operations: rows move in place as events arrive, those of a moment together, and are bounded in number.

import { age, duration, sentence } from "./format.js";

// Between two drawings as long a pause as the last one took: at least half of the time is the reader's.
const DRAW_MS = 40, MAX_DRAW_MS = 250;
const FINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]);
// More changes than this at once are not pointed out one by one: nobody could follow, and each costs a repaint.
const MAX_FLASHES = 6;
// While the table is frozen, so many changes wait; with more it asks for the page anew when it goes on.
const MAX_WAITING = 5_000;
const FIELDS = ["choose", "state", "task", "short", "queue", "priority", "attempt", "worker", "percent", "due", "message", "took", "accepted"];

export class OperationTable {
  /**
   * `root` holds the body of the table and the template of a row; `limit` bounds how many rows stay; `closed`: no row
   * is added, the server says which belong here; `onStale`: what is shown is no longer the whole.
   */
  constructor(root, { limit, closed = false, onChange = () => {}, onStale = () => {} }) {
    Object.assign(this, { root, limit, closed, onChange, onStale });
    this.parts = new WeakMap();
    this.wanted = { service: "", state: "", text: "" };
    this.waiting = new Map();
    this.frozen = false;
    this.pause = DRAW_MS;
    this.drawn = -Infinity;
    this.adopt();
    setInterval(() => this.#tellTimes(), 500);
  }

  /** Take the rows that the server has rendered. */
  adopt() {
    this.body = this.root.querySelector("[data-rows]");
    this.template = this.root.querySelector("template");
    this.rows = new Map([...this.body.children].filter((row) => row.dataset.name).map((row) => [row.dataset.name, row]));
    this.filter(this.wanted);
    this.#tellTimes();
  }

  /** Newest state of each operation wins; what came while the table was frozen waits. */
  update(changes) {
    for (const change of changes) this.waiting.set(change.name, change);
    if (!this.frozen) return this.#schedule();
    if (this.waiting.size > MAX_WAITING) {
      this.waiting.clear();
      this.stale = true;
    }
    this.onChange(this);
  }

  freeze(frozen) {
    this.frozen = frozen;
    if (!frozen && this.stale) this.onStale();
    else if (!frozen) this.#schedule();
    this.stale = false;
    this.onChange(this);
  }

  filter(wanted) {
    this.wanted = { ...wanted, text: wanted.text.trim().toLowerCase() };
    for (const row of this.rows.values()) row.hidden = !this.#fits(row);
    this.onChange(this);
  }

  get shown() {
    let count = 0;
    for (const row of this.rows.values()) count += !row.hidden;
    return count;
  }

  // At once, where the last drawing is long enough ago.
  #schedule() {
    const left = Math.max(0, this.drawn + this.pause - performance.now());
    this.drawing ??= setTimeout(() => requestAnimationFrame(() => this.#draw()), left);
  }

  // After layout and paint, which come after this frame's scripts.
  #measure(begun) {
    setTimeout(() => {
      this.drawn = performance.now();
      this.pause = Math.min(MAX_DRAW_MS, Math.max(DRAW_MS, this.drawn - begun));
    });
  }

  #draw() {
    this.drawing = undefined;
    if (this.frozen) return;
    this.#measure(performance.now());
    const changes = [...this.waiting.values()];
    this.waiting.clear();
    const changed = changes.map((change) => this.#apply(change)).filter(Boolean);
    if (changed.length <= MAX_FLASHES) changed.forEach(flash);
    this.#trim();
    this.#tellTimes();
    this.onChange(this);
  }

  /** Returns what is worth pointing out: a new row, or the state of one that has changed. */
  #apply(change) {
    let row = this.rows.get(change.name);
    const isNew = !row;
    if (isNew) {
      if (this.closed) return null;
      row = this.template.content.firstElementChild.cloneNode(true);
      this.rows.set(change.name, row);
      this.#place(row, change);
    } else if (FINAL.has(row.dataset.state)) {
      return null;
    }
    const moved = row.dataset.state !== change.state;
    const parts = this.#partsOf(row);
    fill(row, parts, change);
    row.hidden = !this.#fits(row);
    if (row.hidden) return null;
    return isNew ? row : moved ? parts.state : null;
  }

  #place(row, change) {
    let before = this.body.firstElementChild;
    while (before && Number(before.dataset.created) > change.created) before = before.nextElementSibling;
    this.body.insertBefore(row, before);
  }

  // A row that is not shown goes first, then the oldest; one that is chosen stays.
  #trim() {
    let excess = this.rows.size - this.limit;
    if (excess <= 0) return;
    const oldestFirst = [...this.body.children].reverse().filter((row) => !this.#partsOf(row).choose?.checked);
    for (const row of [...oldestFirst.filter((each) => each.hidden), ...oldestFirst.filter((each) => !each.hidden)]) {
      if (excess-- <= 0) return;
      row.remove();
      this.rows.delete(row.dataset.name);
    }
  }

  #fits(row) {
    const { service, state, text } = this.wanted;
    if (service && row.dataset.service !== service) return false;
    if (state && row.dataset.state !== state) return false;
    return !text || (row.dataset.search ??= row.textContent.toLowerCase() + row.dataset.name).includes(text);
  }

  #tellTimes() {
    const now = Date.now();
    for (const row of this.rows.values()) {
      if (row.hidden) continue;
      const parts = this.#partsOf(row);
      const created = Number(row.dataset.created), ended = Number(row.dataset.ended), due = Number(row.dataset.due);
      say(parts.accepted, created ? `${age(now - created)}${now - created < 1000 ? "" : " ago"}` : "");
      say(parts.took, created ? duration((ended || now) - created) : "");
      if (due && !ended) say(parts.due, due > now ? `due in ${age(due - now)}` : "due");
    }
  }

  #partsOf(row) {
    let parts = this.parts.get(row);
    if (!parts) {
      parts = Object.fromEntries(FIELDS.map((name) => [name, row.querySelector(`[data-f=${name}]`)]));
      parts.use = parts.state.querySelector("use");
      parts.stateName = parts.state.querySelector("span");
      parts.bar = row.querySelector("progress");
      this.parts.set(row, parts);
    }
    return parts;
  }
}

function fill(row, parts, change) {
  Object.assign(row.dataset, {
    key: change.name, name: change.name, service: change.service, state: change.state,
    created: change.created, ended: change.ended, due: change.due,
  });
  delete row.dataset.search;
  if (parts.state.dataset.state !== change.state || !parts.stateName.textContent) {
    parts.state.dataset.state = change.state;
    parts.use.setAttribute("href", `#state-${change.state.toLowerCase()}`);
    say(parts.stateName, sentence(change.state));
  }
  if (parts.task.textContent !== change.task || parts.short.textContent !== change.short) {
    say(parts.task, change.task);
    parts.task.setAttribute("href", `/operations/${encodeURIComponent(change.service)}/${encodeURIComponent(change.id)}`);
    say(parts.short, change.short);
    if (parts.choose) {
      parts.choose.value = change.name;
      parts.choose.setAttribute("aria-label", `Choose ${change.task} ${change.short}`);
    }
  }
  say(parts.queue, change.queue);
  say(parts.priority, change.priority === "NORMAL" ? "" : sentence(change.priority));
  say(parts.attempt, change.attempt ? `${change.attempt}/${change.max_attempts}` : "");
  parts.attempt?.classList.toggle("again", change.attempt > 1);
  say(parts.worker, change.worker.split("@").pop());
  fillDetail(parts, change);
}

/** What there is to say of it now: how far it is, why it failed, when it is due. */
function fillDetail(parts, change) {
  const running = change.state === "RUNNING" && change.percent !== null;
  if (parts.bar) {
    parts.bar.hidden = !running;
    if (running) {
      parts.bar.value = change.percent;
      parts.bar.setAttribute("aria-label", `Progress of ${change.task}`);
    }
  }
  say(parts.percent, running ? `${change.percent} %` : "");
  const failing = ["FAILED", "RETRYING"].includes(change.state);
  const message = running ? change.message : failing ? change.error : "";
  if (parts.message && parts.message.textContent !== message) {
    parts.message.textContent = parts.message.title = message;
  }
  parts.message?.classList.toggle("bad", failing);
  say(parts.due, "");
}

function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

function flash(element) {
  if (still.matches) return;
  const colour = getComputedStyle(element).getPropertyValue("--accent-soft");
  element.animate([{ background: colour }, { background: "transparent" }], { duration: 900, easing: "ease-out" });
}
