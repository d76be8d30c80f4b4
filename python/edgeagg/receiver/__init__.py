"""The platform's half: takes batches in exactly once in effect, commits, then answers.

`inbox` decides, a `Store` keeps, `mqtt` talks; `audit` proves that nothing is missing.
"""

from edgeagg.receiver.inbox import Inbox
from edgeagg.receiver.store import Delivery, Outcome, Progress, Store, open_store

__all__ = ["Delivery", "Inbox", "Outcome", "Progress", "Store", "open_store"]
