// The live stream: server-sent events that go on where they stopped.
//
// A break is bridged by Last-Event-ID: nothing is missed and nothing comes twice. A page that was away for long asks
// for its content anew instead of replaying what nobody saw.

const RETRY_MS = [1000, 2000, 4000, 8000];
const HIDDEN_MS = 20_000;
const STALE_MS = 120_000;

export class Stream {
  /** `handlers`: by event name, called with the parsed data. `onState`: "live", "waiting". `onStale`: ask anew. */
  constructor(url, cursor, handlers, { onState, onStale }) {
    Object.assign(this, { url, cursor, handlers, onState, onStale, failures: 0, heard: Date.now(), source: null });
    document.addEventListener("visibilitychange", () => this.#visibilityChanged());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.onStale());
    this.open();
  }

  open() {
    this.close();
    const url = new URL(this.url, location.href);
    if (this.cursor) url.searchParams.set("cursor", this.cursor);
    const source = (this.source = new EventSource(url));
    source.addEventListener("open", () => {
      this.failures = 0;
      this.onState("live");
    });
    source.addEventListener("error", () => this.#failed(source));
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, (event) => {
        if (event.lastEventId) this.cursor = event.lastEventId;
        this.heard = Date.now();
        handle(JSON.parse(event.data));
      });
    }
  }

  close() {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  // The browser reconnects by itself unless the answer was an error, such as too many streams.
  #failed(source) {
    if (source !== this.source) return;
    this.onState("waiting");
    if (source.readyState !== EventSource.CLOSED) return;
    this.retry = setTimeout(() => this.open(), RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)]);
  }

  // Browsers allow six connections to a host: a page that nobody looks at gives its own back.
  #visibilityChanged() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        this.close();
        this.onState("waiting");
      }, HIDDEN_MS);
    } else if (!this.source) {
      if (Date.now() - this.heard > STALE_MS) this.onStale();
      else this.open();
    }
  }
}
