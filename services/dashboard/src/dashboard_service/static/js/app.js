// Every page: the live stream, times that pass, the theme, forms; and what the page at hand needs beside these.

import { LiveChart, StatsChart } from "./chart.js";
import { sentence, tellTime } from "./format.js";
import { Chooser } from "./bulk.js";
import { enhanceForms, toast } from "./forms.js";
import { startKeys } from "./keys.js";
import { morph } from "./morph.js";
import { OperationTable } from "./operations.js";
import { Stream } from "./stream.js";

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const NAMES = { live: "Live", waiting: "Reconnecting" };
const MAX_FACTS = 40;
const STATISTICS_MS = 30_000;

let table = null;
let chooser = null;
let chart = null;
let statistics = [];
let stream = null;

const handlers = {
  operations: (changes) => {
    table?.update(changes);
    if (chart) for (const change of changes) chart.count(change.verb, change.at);
  },
  facts: (facts) => facts.forEach(showFact),
  panel: ({ html }) => {
    const panel = document.getElementById("panel");
    if (!panel) return;
    const wanted = panel.cloneNode(false);
    wanted.append(parse(html));
    if (table && panel.contains(table.root)) {
      if (table.frozen) return;
      morph(panel, wanted);
      table.adopt();
    } else {
      morph(panel, wanted);
    }
    tellTime(panel);
  },
  sample: ({ health, dead }) => {
    showDead(dead);
    for (const [service, state] of Object.entries(health)) showHealth(service, state);
  },
  service: ({ service, up, detail }) => {
    const missing = main.querySelector(`[data-missing="${CSS.escape(service)}"]`);
    if (up && missing) refresh();
    if (!up) showHealth(service, "unreachable", detail);
  },
  resync: () => refresh(),
};

/** Markup of our own server as nodes, its leading white space too; scripts in it would not run. */
function parse(html) {
  const fragment = document.createDocumentFragment();
  fragment.append(...new DOMParser().parseFromString(`<body>${html}`, "text/html").body.childNodes);
  return fragment;
}

/** Ask for the page anew and change only what differs; the stream goes on from the new snapshot. */
let refreshing = null;
function refresh() {
  refreshing ??= load(location.href, false).finally(() => (refreshing = null));
}

async function load(address, remember) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (remember) history.replaceState(null, "", address);
  document.title = page.title;
  morph(main, document.importNode(page.getElementById("main"), true));
  if (table) {
    table.closed = isClosed();
    table.adopt();
  }
  chart?.replace(JSON.parse(page.querySelector("[data-series]").dataset.series));
  showStatistics();
  tellTime();
  follow();
}

function follow() {
  stream?.close();
  if (!main.dataset.stream) return;
  if (stream) {
    stream.url = main.dataset.stream;
    stream.cursor = main.dataset.cursor;
    stream.open();
    return;
  }
  stream = new Stream(main.dataset.stream, main.dataset.cursor, handlers, { onState: showConnection, onStale: refresh });
}

function showConnection(state) {
  connection.dataset.state = state;
  connection.querySelector("span").textContent = NAMES[state];
}

function showDead(count) {
  for (const badge of document.querySelectorAll("[data-dead]")) {
    badge.textContent = count > 999 ? "999+" : count;
    badge.hidden = !count;
  }
}

function showHealth(service, state, detail = "") {
  for (const dot of document.querySelectorAll(`[data-health="${CSS.escape(service)}"]`)) {
    dot.dataset.state = state;
    dot.title = detail ? `${service}: ${state} (${detail})` : `${service}: ${state}`;
  }
}

function showFact(fact) {
  const list = document.getElementById("facts");
  if (!list) return;
  const item = list.querySelector("template").content.firstElementChild.cloneNode(true);
  const [, service, noun, verb] = fact.type.split(".");
  item.querySelector("[data-f=title]").textContent = `${sentence(noun)} ${verb.replaceAll("_", " ")}`;
  item.querySelector("[data-f=subject]").textContent = fact.subject;
  item.querySelector("[data-f=service]").textContent = service;
  item.querySelector("time").dateTime = new Date(fact.at).toISOString();
  item.dataset.verb = verb;
  const link = item.querySelector("a");
  if (fact.trace) link.href = `/traces/${fact.trace}`;
  link.hidden = !fact.trace;
  list.querySelector("template").after(item);
  list.querySelector(".empty")?.remove();
  while (list.querySelectorAll("li").length > MAX_FACTS) list.querySelector("li:last-of-type").remove();
  tellTime(item);
}

function startTable() {
  const root = main.querySelector("[data-operations]");
  if (!root) return;
  const empty = root.querySelector("[data-empty]");
  const counter = document.querySelector("[data-shown]");
  const pause = document.querySelector("[data-pause]");
  const onChange = (it) => {
    if (empty) empty.hidden = it.shown > 0;
    if (counter) counter.textContent = `${it.shown} shown`;
    chooser?.tell();
    if (pause) pause.querySelector("span").textContent = it.frozen ? `Resume${it.waiting.size ? ` (${it.waiting.size})` : ""}` : "Pause";
  };
  const bulk = main.querySelector("form[data-bulk]");
  if (bulk) chooser = new Chooser(bulk);
  table = new OperationTable(root, { limit: Number(root.dataset.limit), closed: isClosed(), onChange, onStale: refresh });
  pause?.addEventListener("click", () => {
    const frozen = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(frozen));
    table.freeze(frozen);
  });
  startFilter();
}

/** With a filter in the services' language, which rows belong here is theirs to say. */
function isClosed() {
  return Boolean(main.querySelector("form[data-filter] [name=filter]")?.defaultValue) || !main.querySelector("[data-pause]") && Boolean(main.querySelector("form[data-filter]"));
}

/** What is typed in the search filters at once; the rest asks the services, whose rows may lie further back. */
function startFilter() {
  const form = document.querySelector("form[data-filter]");
  if (!form) return;
  const read = () => Object.fromEntries(["service", "state", "text", "filter"].map((name) => [name, form.elements[name]?.value ?? ""]));
  const address = () => {
    const query = new URLSearchParams(Object.entries(read()).filter(([, value]) => value.trim()));
    const page = form.getAttribute("action");
    return query.size ? `${page}?${query}` : page;
  };
  const ask = () => load(address(), true);
  table.filter(read());
  form.addEventListener("input", ({ target }) => {
    if (target.name === "filter") return;
    table.filter(read());
    if (target.name === "text") history.replaceState(null, "", address());
    else ask();
  });
  form.elements.filter.addEventListener("change", ask);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
}

function startChart() {
  const host = document.getElementById("chart");
  if (!host) return;
  const fields = ["accepted", "succeeded", "failed", "retried"].map((name) => document.querySelector(`[data-rate=${name}]`));
  const span = document.querySelector("[data-rate-of]");
  chart = new LiveChart(host, JSON.parse(host.dataset.series), (means, ago) => {
    means.forEach((mean, index) => (fields[index].textContent = ago ? String(mean) : mean.toFixed(mean < 10 ? 1 : 0)));
    span.textContent = ago ? `${ago} s ago, per second` : "per second, mean of 10 s";
  });
}

/** Statistics move slowly: they are asked for once in a while, by whoever looks. */
function startStatistics() {
  const section = () => document.getElementById("statistics");
  if (!section()) return;
  statistics = [...section().querySelectorAll("[data-chart]")].map((host) => new StatsChart(host, JSON.parse(section().dataset.stats)));
  setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch(section().dataset.from, { headers: { Accept: "text/html" } }).catch(() => null);
    if (!answer?.ok) return;
    morph(section(), parse(await answer.text()).querySelector("#statistics"));
    showStatistics();
  }, STATISTICS_MS);
}

function showStatistics() {
  const stats = document.getElementById("statistics")?.dataset.stats;
  if (stats) for (const each of statistics) each.replace(JSON.parse(stats));
}

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.addEventListener("click", () => {
      const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
      const wanted = now === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = wanted;
      localStorage.setItem("waybill-theme", wanted);
    });
  }
}

function startCopying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    toast("Copied", []);
  });
}

function afterwards(form) {
  if ("bulk" in form.dataset) chooser?.clear();
  refresh();
}

startTheme();
startCopying();
startTable();
startChart();
startStatistics();
startKeys({ chooser, pause: document.querySelector("[data-pause]") });
enhanceForms({ afterwards });
tellTime();
setInterval(tellTime, 1000);
follow();
