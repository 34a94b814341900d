"""Forms as a browser sends them, and text as an attacker does."""

import re

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"


def csrf(browser, path="/queues"):
    """The token of the browser, as a form of the page carries it."""
    return re.search(r'name="csrf_token" value="([^"]+)"', browser.get(path).text).group(1)
