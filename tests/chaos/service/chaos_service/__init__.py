"""A service whose tasks do what chaos asks of them."""

import os

from chaos_service.clock import shift

# Before anything else is imported: what has the real clock by then keeps it.
shift(float(os.environ.get("CHAOS_CLOCK_OFFSET_SECONDS", "0")))
