"""Errors by what they ask of the caller.

Every error carries a sentence for the user: what is wrong, where, and the remedy.
"""

from __future__ import annotations


class UprampError(Exception):
    """Base of all errors that upramp raises on purpose."""


class NotApplicable(UprampError):
    """A step does not apply to this exposure: skip it, with this reason.

    ``left``: the exposure as a whole step leaves it all the same; without it, as it was.
    """

    def __init__(self, reason: str, left: object = None) -> None:
        super().__init__(reason)
        self.left = left


class Unprocessable(UprampError):
    """The input itself is bad: record it as failed, go on with the others."""


class Retryable(UprampError):
    """A passing trouble (a busy disk, a server out of reach): try again later."""


class Misconfigured(UprampError):
    """Configuration or references are wrong: tell the operator, who must act."""
