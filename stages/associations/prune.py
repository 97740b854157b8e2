"""Associations that say the same as others, or less.

Candidates overlap: an observation and a group of which only that observation has data have the same
members. As the observatory's generator does (documented in ``jwst.associations.lib.prune``),

- of associations with the same members the one of the lower candidate is kept: an observation before a
  group of observations before the whole program; within one candidate, the one of the later rule;
- of associations with the same product those with most members are kept: an exposure with its backgrounds
  before the exposure alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from upramp.stages.associations.record import Association

_ORDER = "ocar"


def prune(found: Sequence[Association]) -> list[Association]:
    """The associations that are kept, in their order; the first of equal ones."""
    return _largest(_distinct(found))


def _distinct(found: Sequence[Association]) -> list[Association]:
    """One association for each set of members."""
    best: dict[frozenset[tuple[str, str]], tuple[int, int]] = {}
    members = [frozenset((m.expname, m.exptype) for m in association.members) for association in found]
    for position, association in enumerate(found):
        rank = _ORDER.find(association.asn_id[0]), position
        best[members[position]] = min(best.get(members[position], rank), rank)
    return [a for position, a in enumerate(found) if best[members[position]][1] == position]


def _largest(found: Sequence[Association]) -> list[Association]:
    """Of every product, the associations with most members."""
    most: dict[tuple[int, str], int] = {}
    for association in found:
        product = association.level, association.products[0].name
        most[product] = max(most.get(product, 0), len(association.members))
    return [a for a in found if len(a.members) == most[a.level, a.products[0].name]]
