// How values read. dashboard_service/formatting.py says the same for what the server renders.

const MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

export function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds / 1000);
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < MINUTE) return `${Math.floor(seconds)} s`;
  for (const [size, name, smaller, smallerName] of [[DAY, "d", HOUR, "h"], [HOUR, "h", MINUTE, "min"], [MINUTE, "min", 1, "s"]]) {
    if (seconds >= size) {
      const part = Math.floor((seconds % size) / smaller);
      const whole = Math.floor(seconds / size);
      return part ? `${whole} ${name} ${part} ${smallerName}` : `${whole} ${name}`;
    }
  }
}

/** One unit is enough for an age that grows under the reader's eyes. */
export function age(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 1) return "now";
  if (seconds < MINUTE) return `${seconds} s`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h`;
  return `${Math.floor(seconds / DAY)} d`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export function clock(instant) {
  const day = new Date().toDateString() === instant.toDateString() ? "" : `${DATE.format(instant)}, `;
  return `${day}${CLOCK.format(instant)}.${String(instant.getMilliseconds()).padStart(3, "0")}`;
}

export function sentence(identifier) {
  const text = identifier.replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// `data-ago`: how long ago, or how long until; `data-since`: how long it has lasted; `data-clock`: the local time.
export function tellTime(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const instant = new Date(element.dateTime);
    if (Number.isNaN(instant.getTime())) continue;
    if (!element.title) element.title = instant.toISOString();
    let text = null;
    const passed = now - instant.getTime();
    if ("ago" in element.dataset) text = passed < 0 ? `in ${age(-passed)}` : passed < 1000 ? "now" : `${age(passed)} ago`;
    else if ("since" in element.dataset) text = duration(passed);
    else if ("clock" in element.dataset) text = clock(instant);
    if (text !== null && element.textContent !== text) element.textContent = text;
  }
}
