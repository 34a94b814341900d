// Operations per second: stacked bars of how they ended and a line of how many were accepted. One SVG, own code.

const SVG = "http://www.w3.org/2000/svg";
const SERIES = ["succeeded", "failed", "retried"];
const PADDING = { top: 8, right: 8, bottom: 18, left: 34 };

export class Chart {
  /** `seconds` rows of [accepted, succeeded, failed, retried], oldest first. */
  constructor(host, rows, readout) {
    this.host = host;
    this.readout = readout;
    this.rows = rows;
    this.second = Math.floor(Date.now() / 1000);
    this.svg = host.appendChild(element("svg", { role: "img", "aria-label": host.dataset.label }));
    this.grid = this.svg.appendChild(element("g", { class: "chart-grid" }));
    const clip = this.svg.appendChild(element("clipPath", { id: "chart-clip" }));
    this.clip = clip.appendChild(element("rect", {}));
    const plot = this.svg.appendChild(element("g", { "clip-path": "url(#chart-clip)" }));
    this.moving = plot.appendChild(element("g", { class: "chart-moving" }));
    this.paths = Object.fromEntries(
      [...SERIES, "accepted"].map((name) => [name, this.moving.appendChild(element("path", { class: `chart-${name}` }))]),
    );
    this.cursor = this.svg.appendChild(element("line", { class: "chart-cursor", visibility: "hidden" }));
    new ResizeObserver(() => this.draw()).observe(host);
    host.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    host.addEventListener("pointerleave", () => this.#point(null));
    setInterval(() => this.#tick(), 1000);
    this.draw();
  }

  /** One event. It is counted in its own second, which may have begun since the picture was drawn. */
  count(verb, at) {
    this.#advance();
    const column = { accepted: 0, succeeded: 1, failed: 2, cancelled: 2, expired: 2, retried: 3, lost: 3 }[verb];
    const row = this.rows[this.rows.length - 1 - (this.second - Math.floor(at / 1000))];
    if (column === undefined || !row) return;
    row[column] += 1;
  }

  replace(rows) {
    this.rows = rows;
    this.second = Math.floor(Date.now() / 1000);
    this.draw();
  }

  #tick() {
    this.#advance();
    this.draw();
    this.#slide();
  }

  #advance() {
    const now = Math.floor(Date.now() / 1000);
    for (; this.second < now; this.second += 1) {
      this.rows.push([0, 0, 0, 0]);
      this.rows.shift();
    }
  }

  draw() {
    const width = this.host.clientWidth, height = this.host.clientHeight;
    if (!width || !height) return;
    // The second that is running is not drawn: it is not complete.
    const rows = this.rows.slice(0, -1);
    const plot = { width: width - PADDING.left - PADDING.right, height: height - PADDING.top - PADDING.bottom };
    const step = plot.width / (rows.length - 1);
    const top = ceiling(Math.max(4, ...rows.map((row) => Math.max(row[0], row[1] + row[2] + row[3]))));
    const y = (value) => PADDING.top + plot.height * (1 - value / top);
    const x = (index) => PADDING.left + index * step - step / 2;
    this.scale = { step, rows, top, y };
    set(this.svg, { viewBox: `0 0 ${width} ${height}`, width, height });
    set(this.clip, { x: PADDING.left, y: 0, width: plot.width, height });
    const gap = step > 5 ? 1.5 : step > 3 ? 0.75 : 0;
    const floors = rows.map(() => 0);
    SERIES.forEach((name, series) => {
      let path = "";
      rows.forEach((row, index) => {
        const value = row[series + 1];
        if (!value) return;
        const bottom = y(floors[index]), above = y((floors[index] += value));
        path += `M${(x(index) + gap / 2).toFixed(2)} ${bottom.toFixed(2)}V${above.toFixed(2)}h${(step - gap).toFixed(2)}V${bottom.toFixed(2)}z`;
      });
      this.paths[name].setAttribute("d", path);
    });
    const line = rows.map((row, index) => `${(x(index) + step / 2).toFixed(2)} ${y(row[0]).toFixed(2)}`).join("L");
    this.paths.accepted.setAttribute("d", line ? `M${line}` : "");
    this.#drawGrid(width, height, top, y, rows.length);
    this.#read(this.pointed ?? null);
  }

  #drawGrid(width, height, top, y, count) {
    this.grid.replaceChildren();
    for (const value of [0, top / 2, top]) {
      this.grid.append(element("line", { x1: PADDING.left, x2: width - PADDING.right, y1: y(value), y2: y(value) }));
      this.grid.append(text(PADDING.left - 6, y(value) + 3.5, String(value), "end"));
    }
    const plot = width - PADDING.left - PADDING.right;
    for (let ago = 0; ago < count; ago += 30) {
      const label = ago === 0 ? "now" : `−${ago} s`;
      const at = PADDING.left + plot * (1 - ago / count);
      this.grid.append(text(at, height - 4, label, ago === 0 ? "end" : "middle"));
    }
  }

  // The picture moves on by one bar in the second until the next one is complete.
  #slide() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || !this.scale) return;
    this.moving.getAnimations().forEach((animation) => animation.cancel());
    this.moving.animate(
      [{ transform: `translateX(${this.scale.step}px)` }, { transform: "translateX(0)" }],
      { duration: 1000, easing: "linear" },
    );
  }

  #point(offset) {
    this.pointed = offset;
    this.#read(offset);
  }

  #read(offset) {
    if (!this.scale) return;
    const { step, rows } = this.scale;
    const index = offset === null ? null : Math.round((offset - PADDING.left) / step);
    const row = index === null ? null : rows[index];
    this.cursor.setAttribute("visibility", row ? "visible" : "hidden");
    if (row) {
      const x = PADDING.left + index * step;
      set(this.cursor, { x1: x, x2: x, y1: PADDING.top, y2: this.host.clientHeight - PADDING.bottom });
    }
    // Without a pointer the readout is the mean of the last ten complete seconds.
    const shown = row ? [row] : rows.slice(-10);
    const mean = [0, 1, 2, 3].map((column) => shown.reduce((sum, each) => sum + each[column], 0) / shown.length);
    this.readout(mean, row ? rows.length - index : null);
  }
}

function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 6, 8, 10].map((each) => each * power).find((each) => each >= value);
}

function element(name, attributes) {
  return set(document.createElementNS(SVG, name), attributes);
}

function text(x, y, content, anchor) {
  const label = element("text", { x, y, "text-anchor": anchor });
  label.textContent = content;
  return label;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}
