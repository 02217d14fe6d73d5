"""What can go wrong in the store.

StoreError
├── StoreBusy                 the writer's queue is full: nothing was tried
├── StoreUnavailable          locked, full or broken disk: nothing was committed
├── StoreCorrupt              a sealed value or the audit chain does not verify
└── Refused                   a rule of the design says no; `code` names it
    ├── NotFound              (also: belongs to another merchant)
    ├── Invalid               a value outside its format
    ├── Conflict              the object is not in a state that allows this
    │   ├── SessionNotPayable
    │   ├── IntentOpen        an earlier attempt's outcome is not known yet
    │   └── TooManyAttempts
    ├── OrderInProgress       the order has a live session
    ├── OrderAlreadyPaid
    └── IdentificationNumbersExhausted
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of the store."""


class StoreBusy(StoreError):
    """The writer's queue is full; nothing was tried."""


class StoreUnavailable(StoreError):
    """The database could not be written; nothing was committed."""


class StoreCorrupt(StoreError):
    """A sealed value cannot be opened or the audit chain is broken."""


class Refused(StoreError):
    """A rule says no. `code` is stable, `related` the id of the object that stands in the way, if any."""

    code = "refused"

    def __init__(self, detail: str, related: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.related = related


class NotFound(Refused):
    """No such object, or not this merchant's."""

    code = "not_found"


class Invalid(Refused):
    """A value outside its format or range."""

    code = "invalid"


class Conflict(Refused):
    """The object is not in a state that allows this."""

    code = "conflict"


class SessionNotPayable(Conflict):
    """The session is not claimed by this call."""

    code = "session_not_payable"


class IntentOpen(Conflict):
    """An attempt at this order is open; `related` is its id. It is resolved, never repeated."""

    code = "intent_open"


class TooManyAttempts(Conflict):
    """The session has used its attempts at the gateway."""

    code = "too_many_attempts"


class OrderInProgress(Refused):
    """Another session of this order is open, claimed, authorizing or unknown; `related` is its id."""

    code = "order_in_progress"

    @property
    def session(self) -> str | None:
        """The session that stands in the way."""
        return self.related


class OrderAlreadyPaid(Refused):
    """This order was paid; `related` is the session that did."""

    code = "order_already_paid"

    @property
    def session(self) -> str | None:
        """The session that paid."""
        return self.related


class IdentificationNumbersExhausted(Refused):
    """No identification number can be issued now without repeating or crowding the pool."""

    code = "identification_numbers_exhausted"
