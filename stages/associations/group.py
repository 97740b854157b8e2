"""From exposures to associations, by looking keys up in tables.

For every candidate, and for the whole pool, every rule gives each exposure a key; exposures of the same
key belong together. The work grows with the number of exposures (as often as they are candidates) times the
number of rules, and with what comes out; no exposure is ever held against another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from upramp.stages.associations.conditions import Key, candidate_line
from upramp.stages.associations.names import (
    exposure_name,
    member_name,
    product_name,
    program_name,
    target_name,
)
from upramp.stages.associations.pool import NOTHING, Candidate, Exposure, by_candidate
from upramp.stages.associations.prune import prune
from upramp.stages.associations.record import DEGRADED, DISCOVERED, SOUND, Association, Member, Product
from upramp.stages.associations.rules import RULES, SEVERAL_OBSERVATIONS, Rule


@dataclass(frozen=True, slots=True)
class Labels:
    """What associations carry that no exposure decides: pool, version, software."""

    asn_pool: str = "none"
    version_id: str | None = None
    code_version: str = ""


@dataclass(frozen=True, slots=True)
class _Draft:
    """One association to be: positions in its view of those with its key, and of target acquisitions."""

    rule: Rule
    alike: tuple[int, ...]
    order: tuple[int, int]
    acquisitions: tuple[int, ...] = ()


def associate(
    exposures: Sequence[Exposure],
    *,
    candidates: Collection[str] | None = None,
    discover: bool = True,
    labels: Labels | None = None,
    rules: Sequence[Rule] = RULES,
) -> list[Association]:
    """The associations of a pool.

    Parameters
    ----------
    exposures : sequence of Exposure
        In the order of the pool, which is that of members.
    candidates : collection of str or None
        Identifiers (``o001``) of those to make associations for; None: all.
    discover : bool
        Whether to combine across the whole program, too. Beside candidates, only what none of them
        holds is kept of these.
    labels : Labels
        What to write into all.
    rules : sequence of Rule
        The table.

    Returns
    -------
    list of Association
        Numbered by program, identifier and type, without those that say the same as others.
    """
    labels = labels or Labels()
    found: list[Association] = []
    for candidate, positions in by_candidate(exposures).items():
        if candidates is None or candidate.id in candidates:
            view = [replace(exposures[p], candidates=(candidate,)) for p in positions]
            found += _associations(view, candidate, rules, labels)
    if discover:
        alone = candidates is not None and not candidates
        found += _associations(exposures, None, rules, labels, all_discovered=alone)
    return number(prune(found[::-1]))


def number(found: Sequence[Association]) -> list[Association]:
    """Count associations by program, identifier and type, from 1."""
    counts: dict[tuple[str, str, str], int] = {}
    numbered = []
    for association in found:
        of = association.program, association.asn_id, association.asn_type
        counts[of] = counts.get(of, 0) + 1
        numbered.append(replace(association, sequence=counts[of]))
    return numbered


def background_key(exposure: Exposure, rules: Sequence[Rule] = RULES) -> Key | None:
    """What science and backgrounds must share for one to be subtracted from the other."""
    for rule in rules:
        if rule.backgrounds and rule.integrations:
            return rule.key(exposure)
    return None


def gather(keys: Mapping[int, Key]) -> dict[Key, list[int]]:
    """Positions with the same key, in order.

    None in a key stands for any value: such exposures join every group that has a value there and else
    the same key. Only keys with None and those they can join are looked up, once for each pattern of None.
    """
    groups: dict[Key, list[int]] = {}
    for position, key in keys.items():
        groups.setdefault(key, []).append(position)
    fuller: dict[Key, list[Key]] = {}
    for length, present in {(len(k), _present(k)): None for k in groups if None in k}:
        alike: dict[Key, list[Key]] = {}
        for key in groups:
            if len(key) == length:
                alike.setdefault(tuple(key[n] for n in present), []).append(key)
        for several in alike.values():
            partial = [key for key in several if _present(key) == present]
            whole = [key for key in several if set(_present(key)) > set(present)]
            if partial and whole:
                fuller[partial[0]] = whole
    for partial_key, several in fuller.items():
        for key in several:
            if key not in fuller:
                groups[key] += groups[partial_key]
    return {key: sorted(group) for key, group in groups.items() if key not in fuller}


def _present(key: Key) -> tuple[int, ...]:
    """Where a key has values."""
    return tuple(n for n, value in enumerate(key) if value is not None)


def _associations(
    view: Sequence[Exposure],
    candidate: Candidate | None,
    rules: Sequence[Rule],
    labels: Labels,
    all_discovered: bool = True,
) -> list[Association]:
    """Associations of the exposures of one candidate, or (None) of the whole pool."""
    drafts: list[_Draft] = []
    for n, rule in enumerate(rules):
        if candidate is None:
            suits = rule.discovered
        else:
            suits = rule.candidates is None or candidate.type in rule.candidates
        if suits:
            drafts += _alone(view, rule, n) if rule.level == 2 else _together(view, candidate, rule, n)
    if candidate is None and not all_discovered:
        drafts = [d for d in drafts if not _in_one_candidate(view, d)]
    return [_made(view, candidate, draft, labels) for draft in sorted(drafts, key=lambda d: d.order)]


def _groups(view: Sequence[Exposure], rule: Rule) -> Iterator[dict[str, list[int]]]:
    """Of every key: positions by what the exposures are as members."""
    keys = {p: key for p, exposure in enumerate(view) if (key := rule.key(exposure)) is not None}
    for positions in gather(keys).values():
        roles: dict[str, list[int]] = {}
        for p in positions:
            roles.setdefault(rule.role(view[p]), []).append(p)
        yield roles


def _alone(view: Sequence[Exposure], rule: Rule, n: int) -> Iterator[_Draft]:
    """Level 2: each science exposure, with the backgrounds it shares with others."""
    for roles in _groups(view, rule):
        backgrounds = roles.get("background", []) if rule.backgrounds else []
        for p in roles.get("science", ()):
            yield _Draft(rule, (p, *backgrounds), (p, n))


def _together(view: Sequence[Exposure], candidate: Candidate | None, rule: Rule, n: int) -> Iterator[_Draft]:
    """Level 3: all of a key, with the target acquisitions of their observations."""
    acquisitions: dict[tuple[str | None, ...], list[int]] = {}
    if rule.acquisitions:
        for p, exposure in enumerate(view):
            if exposure.kind == "target_acquisition" and not exposure.get("is_imprt"):
                acquisitions.setdefault(_observation(exposure), []).append(p)
    several = candidate is not None and candidate.type in SEVERAL_OBSERVATIONS
    for roles in _groups(view, rule):
        alike = sorted(p for positions in roles.values() for p in positions)
        observations = dict.fromkeys(_observation(view[p]) for p in alike)
        if len(roles.get("science", ())) < rule.members or not set(rule.needs) <= roles.keys():
            continue
        if several and len(observations) < 2:
            continue
        also = {p for observation in observations for p in acquisitions.get(observation, ())}
        yield _Draft(rule, tuple(alike), (roles["science"][0], n), tuple(sorted(also - set(alike))))


def _observation(exposure: Exposure) -> tuple[str | None, ...]:
    return exposure.get("program"), exposure.get("instrume"), exposure.get("obs_num")


def _in_one_candidate(view: Sequence[Exposure], draft: _Draft) -> bool:
    """Whether a candidate holds all members, so that it makes the association itself."""
    return bool(set.intersection(*({c.id for c in view[p].candidates} for p in draft.alike)))


def _made(
    view: Sequence[Exposure], candidate: Candidate | None, draft: _Draft, labels: Labels
) -> Association:
    rule, alike = draft.rule, [view[p] for p in draft.alike]
    # where a member lacks a value that others have, those tell it
    fullest = max(alike, key=lambda exposure: len(rule.values(exposure)))
    values = dict(rule.values(fullest))
    acid = DISCOVERED if candidate is None else candidate.id
    lines = rule.told(fullest) + ([] if candidate is None else [candidate_line(candidate)])
    members = [_member(exposure, rule, rule.role(exposure)) for exposure in alike]
    members += [_member(view[p], rule, view[p].kind) for p in draft.acquisitions]
    if rule.level == 2:
        target, name = alike[0].facts.get("targetid", ""), exposure_name(alike[0].file)
    else:
        target = target_name(rule.target or values["target"])
        name = product_name(rule, values["program"], acid, target, alike)
    return Association(
        asn_type=rule.type,
        asn_rule=f"{'discover' if candidate is None else 'candidate'}_{rule.name}",
        level=rule.level,
        program=program_name(values["program"]),
        asn_id=acid,
        target=target,
        products=(Product(name, tuple(members)),),
        constraints="\n".join(lines),
        asn_pool=labels.asn_pool,
        version_id=labels.version_id,
        code_version=labels.code_version,
        degraded_status=DEGRADED if any((m.exposerr or "") not in NOTHING for m in members) else SOUND,
    )


def _member(exposure: Exposure, rule: Rule, role: str) -> Member:
    return Member(
        expname=member_name(exposure, rule),
        exptype=role,
        exposerr=exposure.facts.get("exposerr"),
        asn_candidate=exposure.candidacy if rule.level == 3 else None,
    )
