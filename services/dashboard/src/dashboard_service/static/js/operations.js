// The table of operations: rows move in place as events arrive, at most ten times a second.

import { age, duration, sentence } from "./format.js";

const DRAW_MS = 100;
const FINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"]);

export class OperationTable {
  /** `root` holds the body of the table and the template of a row; `limit` bounds how many rows stay. */
  constructor(root, { limit, onChange = () => {} }) {
    this.root = root;
    this.body = root.querySelector("[data-rows]");
    this.template = root.querySelector("template");
    this.limit = limit;
    this.onChange = onChange;
    this.wanted = { service: "", state: "", text: "" };
    this.waiting = new Map();
    this.frozen = false;
    this.adopt();
    setInterval(() => this.#tellTimes(), 500);
  }

  /** Take the rows that the server has rendered. */
  adopt() {
    this.rows = new Map([...this.body.children].filter((row) => row.dataset.name).map((row) => [row.dataset.name, row]));
    this.filter(this.wanted);
    this.#tellTimes();
  }

  /** Newest state of each operation wins; what came while the table was frozen waits. */
  update(changes) {
    for (const change of changes) this.waiting.set(change.name, change);
    if (!this.frozen) this.#schedule();
    this.onChange(this);
  }

  freeze(frozen) {
    this.frozen = frozen;
    if (!frozen) this.#schedule();
    this.onChange(this);
  }

  filter(wanted) {
    this.wanted = { ...wanted, text: wanted.text.trim().toLowerCase() };
    for (const row of this.rows.values()) row.hidden = !this.#fits(row);
    this.onChange(this);
  }

  get shown() {
    return [...this.rows.values()].filter((row) => !row.hidden).length;
  }

  #schedule() {
    this.drawing ??= setTimeout(() => requestAnimationFrame(() => this.#draw()), DRAW_MS);
  }

  #draw() {
    this.drawing = undefined;
    if (this.frozen) return;
    const changes = [...this.waiting.values()];
    this.waiting.clear();
    for (const change of changes) this.#apply(change);
    this.#trim();
    this.#tellTimes();
    this.onChange(this);
  }

  #apply(change) {
    let row = this.rows.get(change.name);
    if (!row) {
      row = this.template.content.firstElementChild.cloneNode(true);
      row.classList.add("arrived");
      this.rows.set(change.name, row);
      this.#place(row, change);
    } else if (FINAL.has(row.dataset.state)) {
      return;
    }
    const moved = row.dataset.state && row.dataset.state !== change.state;
    fill(row, change);
    row.hidden = !this.#fits(row);
    if (moved) flash(row);
  }

  #place(row, change) {
    let before = this.body.firstElementChild;
    while (before && Number(before.dataset.created) > change.created) before = before.nextElementSibling;
    this.body.insertBefore(row, before);
  }

  // A row that is not shown goes first, then the oldest.
  #trim() {
    let excess = this.rows.size - this.limit;
    const oldestFirst = [...this.body.children].reverse();
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
      const created = Number(row.dataset.created), ended = Number(row.dataset.ended), due = Number(row.dataset.due);
      say(row, "accepted", created ? `${age(now - created)}${now - created < 1000 ? "" : " ago"}` : "");
      say(row, "took", created ? duration((ended || now) - created) : "");
      if (due && !ended) say(row, "due", due > now ? `due in ${age(due - now)}` : "due");
    }
  }
}

function fill(row, change) {
  Object.assign(row.dataset, {
    key: change.name, name: change.name, service: change.service, state: change.state,
    created: change.created, ended: change.ended, due: change.due,
  });
  delete row.dataset.search;
  const badge = row.querySelector("[data-f=state]");
  badge.dataset.state = change.state;
  const use = badge.querySelector("use");
  use.setAttribute("href", `${use.getAttribute("href").split("#")[0]}#state-${change.state.toLowerCase()}`);
  badge.querySelector("span").textContent = sentence(change.state);
  const link = row.querySelector("[data-f=task]");
  link.textContent = change.task;
  link.setAttribute("href", `/operations/${encodeURIComponent(change.service)}/${encodeURIComponent(change.id)}`);
  say(row, "short", change.short);
  say(row, "queue", change.queue);
  say(row, "priority", change.priority === "NORMAL" ? "" : sentence(change.priority));
  say(row, "attempt", change.attempt ? `${change.attempt}/${change.max_attempts}` : "");
  row.querySelector("[data-f=attempt]")?.classList.toggle("again", change.attempt > 1);
  say(row, "worker", change.worker.split("@").pop());
  fillDetail(row, change);
}

/** What there is to say of it now: how far it is, why it failed, when it is due. */
function fillDetail(row, change) {
  const running = change.state === "RUNNING" && change.percent !== null;
  const bar = row.querySelector("progress");
  if (bar) {
    bar.hidden = !running;
    bar.value = change.percent ?? 0;
    bar.setAttribute("aria-label", `Progress of ${change.task}`);
  }
  say(row, "percent", running ? `${change.percent} %` : "");
  const failing = ["FAILED", "RETRYING"].includes(change.state);
  say(row, "message", running ? change.message : failing ? change.error : "");
  const message = row.querySelector("[data-f=message]");
  message?.classList.toggle("bad", failing);
  if (message) message.title = message.textContent;
  say(row, "due", "");
}

function say(row, field, text) {
  const element = row.querySelector(`[data-f=${field}]`);
  if (element && element.textContent !== text) element.textContent = text;
}

function flash(row) {
  row.classList.remove("moved");
  void row.offsetWidth;
  row.classList.add("moved");
}
