// Charts, drawn by uPlot: operations per second as they come, and what the services' statistics say of longer times.

import uPlot from "../vendor/uplot/uPlot.esm.js";

const COLUMNS = { accepted: 0, succeeded: 1, failed: 2, cancelled: 2, expired: 2, retried: 3, lost: 3 };
const SCALE_FLOOR = 4;

const charts = new Set();
const redrawAll = () => charts.forEach((chart) => chart.redraw(false));
new MutationObserver(redrawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const axis = { stroke: colour("--ink-3"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };

/** Fills its host and follows its size. */
function plot(host, options, data) {
  const size = () => ({ width: host.clientWidth || 300, height: host.clientHeight || 120 });
  const chart = new uPlot({ ...size(), legend: { show: false }, padding: [8, 18, 0, 0], ...options }, data, host);
  chart.root.setAttribute("role", "img");
  chart.root.setAttribute("aria-label", host.dataset.label);
  new ResizeObserver(() => chart.setSize(size())).observe(host);
  charts.add(chart);
  return chart;
}

/** One value on top of the other: the highest is drawn first. */
function stacked(rows, columns) {
  return columns.map((_, index) => rows.map((row) => columns.slice(index).reduce((sum, column) => sum + row[column], 0)));
}

const bars = uPlot.paths.bars({ size: [0.85, Infinity], align: 0 });

export class LiveChart {
  /** Rows of [accepted, succeeded, failed, retried], one a second, oldest first. */
  constructor(host, rows, readout) {
    this.rows = rows;
    this.second = Math.floor(Date.now() / 1000);
    this.readout = readout;
    const bar = (name) => ({ paths: bars, fill: colour(name), width: 0, points: { show: false } });
    this.chart = plot(host, {
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(SCALE_FLOOR, Math.ceil(high * 1.05))] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((ago) => (ago === 0 ? "now" : `${ago} s`)), grid: { show: false }, size: 24 },
        { ...axis, size: 38 },
      ],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      series: [{}, bar("--retrying"), bar("--failed"), bar("--succeeded"), { stroke: colour("--ink-3"), width: 1.4, points: { show: false } }],
      hooks: { setCursor: [() => this.#read()] },
    }, this.#data());
    setInterval(() => this.#tick(), 1000);
    this.#read();
  }

  /** One event. It is counted in its own second, which may have begun since the picture was drawn. */
  count(verb, at) {
    this.#advance();
    const row = this.rows[this.rows.length - 1 - (this.second - Math.floor(at / 1000))];
    if (COLUMNS[verb] !== undefined && row) row[COLUMNS[verb]] += 1;
  }

  replace(rows) {
    this.rows = rows;
    this.second = Math.floor(Date.now() / 1000);
    this.#draw();
  }

  #tick() {
    this.#advance();
    if (!document.hidden) this.#draw();
  }

  #draw() {
    this.chart.setData(this.#data());
    this.#read();
  }

  #advance() {
    const now = Math.floor(Date.now() / 1000);
    for (; this.second < now; this.second += 1) {
      this.rows.push([0, 0, 0, 0]);
      this.rows.shift();
    }
  }

  // The second that is running is not drawn: it is not complete.
  #data() {
    const rows = this.rows.slice(0, -1);
    return [rows.map((_, index) => index + 1 - rows.length), ...stacked(rows, [3, 2, 1]), rows.map((row) => row[0])];
  }

  // Without a pointer the readout is the mean of the last ten complete seconds.
  #read() {
    const rows = this.rows.slice(0, -1);
    const index = this.chart?.cursor.idx ?? null;
    const row = index === null ? null : rows[index];
    const shown = row ? [row] : rows.slice(-10);
    const mean = [0, 1, 2, 3].map((column) => shown.reduce((sum, each) => sum + each[column], 0) / shown.length);
    this.readout(mean, row ? rows.length - index : null);
  }
}

const percent = (value) => (value === null || value === undefined ? "" : `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`);
const seconds = (value) => (value === null || value === undefined ? "" : value < 1 ? `${Math.round(value * 1000)} ms` : value < 90 ? `${value.toFixed(value < 10 ? 1 : 0)} s` : `${Math.round(value / 60)} min`);

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const when = (at, step) => (step >= 86_400 ? DAY : CLOCK).format(new Date(at * 1000));

const KINDS = {
  count: {
    columns: (stats) => stacked(stats.times.map((_, at) => [stats.succeeded[at], stats.failed[at], stats.ended[at]]), [2, 1, 0]),
    series: () => [["--cancelled"], ["--failed"], ["--succeeded"]].map(([name]) => ({ paths: bars, fill: colour(name), width: 0, points: { show: false } })),
    value: (stats, at) => `${(stats.succeeded[at] + stats.failed[at] + stats.ended[at]).toLocaleString()} ended`,
    ticks: (ticks) => ticks.map((value) => (Number.isInteger(value) ? value.toLocaleString() : "")),
  },
  failures: {
    columns: (stats) => [stats.rate],
    series: () => [{ stroke: colour("--failed"), width: 1.6, points: { size: 3 }, fill: colour("--failed-soft") }],
    value: (stats, at) => percent(stats.rate[at]) || "nothing ended",
    ticks: (ticks) => ticks.map(percent),
  },
  latency: {
    columns: (stats) => [stats.p95, stats.mean],
    series: () => [{ stroke: colour("--retrying"), width: 1.6, points: { size: 3 } }, { stroke: colour("--running"), width: 1.6, points: { size: 3 } }],
    value: (stats, at) => (stats.mean[at] === null ? "nothing ended" : `mean ${seconds(stats.mean[at])}, p95 ${seconds(stats.p95[at])}`),
    ticks: (ticks) => ticks.map(seconds),
  },
};

/** One of the charts of statistics: `host.dataset.chart` names which; its caption tells what the pointer is at. */
export class StatsChart {
  constructor(host, stats) {
    this.kind = KINDS[host.dataset.chart];
    this.said = host.parentElement.querySelector("[data-said]");
    this.usual = this.said.textContent;
    this.stats = stats;
    this.chart = plot(host, {
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [{ ...axis, grid: { show: false }, size: 24, space: 70, values: (_, ticks, __, ___, step) => ticks.map((at) => when(at, step)) }, { ...axis, size: 50, values: (_, ticks) => this.kind.ticks(ticks) }],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false }, sync: { key: "stats" } },
      series: [{}, ...this.kind.series()],
      hooks: { setCursor: [() => this.#tell()] },
    }, this.#data());
  }

  replace(stats) {
    this.stats = stats;
    this.chart.setData(this.#data());
  }

  #data() {
    return [this.stats.times, ...this.kind.columns(this.stats)];
  }

  #tell() {
    const at = this.chart?.cursor.idx ?? null;
    const text = at === null ? this.usual : `${CLOCK.format(new Date(this.stats.times[at] * 1000))}: ${this.kind.value(this.stats, at)}`;
    if (this.said.textContent !== text) this.said.textContent = text;
  }
}
