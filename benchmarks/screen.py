"""A real browser that looks at a page of the dashboard and notes when what it shows has changed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import CDPSession, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-precise-memory-info"]

# Which state each row shows, and since which frame; and how long the main thread was taken at a stretch.
_WATCH = """() => {
  const seen = [], tasks = [];
  new PerformanceObserver((list) => list.getEntries().forEach((each) => tasks.push(each.duration)))
    .observe({ type: "longtask" });
  const note = (rows) => requestAnimationFrame(() => setTimeout(() => {
    const now = Date.now();
    for (const row of rows) seen.push([row[0], row[1], now]);
  }));
  new MutationObserver((mutations) => {
    const rows = new Map();
    for (const { type, target, addedNodes } of mutations) {
      for (const row of type === "attributes" ? [target] : addedNodes) {
        if (row.dataset?.name) rows.set(row.dataset.name, row.dataset.state);
      }
    }
    if (rows.size) note([...rows]);
  }).observe(document.querySelector("[data-rows]"),
    { childList: true, subtree: true, attributeFilter: ["data-state"] });
  window.bench = { take: () => seen.splice(0), tasks };
}"""


@dataclass(frozen=True, slots=True)
class Screen:
    """The operations page of a dashboard, open and live."""

    page: Page
    devtools: CDPSession

    def seen(self) -> list[tuple[str, str, float]]:
        """Operation, state and Unix milliseconds of every change since the last call."""
        return [tuple(each) for each in self.page.evaluate("window.bench.take()")]

    def longest_task_ms(self) -> float:
        """0 where none took 50 ms, from which on browsers call a task long."""
        return float(self.page.evaluate("Math.max(0, ...window.bench.tasks.splice(0))"))

    def memory(self) -> dict[str, Any]:
        """Bytes of the heap and nodes of the page, garbage collected."""
        self.devtools.send("HeapProfiler.collectGarbage")
        heap = self.devtools.send("Runtime.getHeapUsage")["usedSize"]
        return {"heap": heap, "rows": self.page.locator("tr.operation").count()}


def program() -> str:
    """Raises FileNotFoundError where there is no browser."""
    found = os.environ.get("WAYBILL_TEST_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        raise FileNotFoundError("chromium")
    return found


@contextlib.contextmanager
def looking(address: str) -> Iterator[Screen]:
    """The page, once its stream is live."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=SWITCHES)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{address}/operations")
        page.wait_for_selector("#connection[data-state=live]")
        page.evaluate(_WATCH)
        yield Screen(page, page.context.new_cdp_session(page))
        browser.close()
