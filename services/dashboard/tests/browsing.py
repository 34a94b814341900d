"""What tests in a real browser share."""

from playwright.sync_api import Page


def never_reload(page: Page) -> None:
    """Leave a mark that a reload would wipe out."""
    page.evaluate("window.marked = true")


def was_not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.marked === true"))


def row(page: Page, kept):
    return page.locator(f'tr[data-name$="{kept.id}"]')
