"""Whether the interfaces of a domain are a pair, and what is wrong if they are not."""

from collections.abc import Iterator

from tapbond.teaming.finding import Finding
from tapbond.teaming.nic import Nic, nics
from tapbond.teaming.pair import PERSISTENT, TRANSIENT, pairs
from tapbond.teaming.rules import RULES
from tapbond.teaming.source import Source


def check(source: Source) -> list[Finding]:
    """Return what is wrong, in the order of the lines; nothing: the pair is as the document has it."""
    found = list(_parts(source))
    for pair in pairs(source):
        for rule in RULES:
            found += rule(source, pair)
    return sorted(found, key=lambda finding: finding.line)


def _parts(source: Source) -> Iterator[Finding]:
    """Yield what keeps interfaces from being a pair at all."""
    all_nics = nics(source)
    if not any(nic.teaming for nic in all_nics):
        yield from _undeclared(source, all_nics)
        return
    for nic in all_nics:
        if nic.teaming is None:
            yield from _left_out(source, nic, all_nics)
        elif nic.part == PERSISTENT:
            yield from _persistent(source, nic, all_nics)
        elif nic.part == TRANSIENT:
            yield from _transient(source, nic, all_nics)
        else:
            yield Finding(
                line=nic.teaming.line,
                text=f"teaming type {nic.part!r} is unknown (persistent or transient)",
            )
    yield from _same_alias(all_nics)


def _undeclared(source: Source, all_nics: list[Nic]) -> Iterator[Finding]:
    """Yield what to say of a domain without any <teaming>: two interfaces with one MAC are meant to be a pair."""
    for nic in all_nics:
        other = _twin(nic, all_nics) if nic.model == "virtio" and not nic.passthrough else None
        if other is not None and other.passthrough:
            yield Finding(
                line=nic.line,
                text=f"{nic.label} has the MAC of the hostdev in line {other.line} but no <teaming>"
                " (<teaming type='persistent'/>)",
                cure=(source.insert(nic.element, "<teaming type='persistent'/>"),),
            )
            return
    line = all_nics[0].line if all_nics else 1
    yield Finding(
        line=line,
        text="no interface has a <teaming>, and no virtio interface shares its MAC with a hostdev one: there is no"
        " pair (give both halves the same <mac>)",
    )


def _left_out(source: Source, nic: Nic, all_nics: list[Nic]) -> Iterator[Finding]:
    """Yield the missing half: an interface without <teaming> that has the MAC of one with it."""
    other = _twin(nic, all_nics)
    if other is None:
        return
    if other.part == PERSISTENT and nic.passthrough and other.alias and not _followers(other, all_nics):
        text = f"<teaming type='transient' persistent='{other.alias}'/>"
        yield Finding(
            line=nic.line,
            text=f"{nic.label} has the MAC of {other.label} but no <teaming> ({text})",
            cure=(source.insert(nic.element, text),),
        )
    elif other.part == TRANSIENT and not nic.passthrough and other.persistent in ("", nic.alias):
        yield Finding(
            line=nic.line,
            text=f"{nic.label} has the MAC of the transient one in line {other.line} but no <teaming>"
            " (<teaming type='persistent'/>)",
            cure=(source.insert(nic.element, "<teaming type='persistent'/>"),),
        )


def _persistent(source: Source, nic: Nic, all_nics: list[Nic]) -> Iterator[Finding]:
    if not nic.alias:
        alias = _free_alias(all_nics)
        alias_element = nic.element.child("alias")
        cure = (
            source.attribute(alias_element, "name", alias)
            if alias_element
            else source.insert(nic.element, f"<alias name='{alias}'/>")
        )
        yield Finding(
            line=nic.line,
            text=f"the persistent {nic.label} has no alias that the other could name (<alias name='{alias}'/>)",
            cure=(cure,),
        )
        return
    followers = _followers(nic, all_nics)
    if not followers and not _coming(nic, all_nics):
        yield Finding(
            line=nic.line,
            text=f"the persistent {nic.label} has no transient partner (a hostdev interface of the same MAC with"
            f" <teaming type='transient' persistent='{nic.alias}'/>)",
        )
    for extra in followers[1:]:
        yield Finding(
            line=extra.line,
            text=f"{nic.label} has a transient partner already, in line {followers[0].line}: a pair has two",
        )


def _transient(source: Source, nic: Nic, all_nics: list[Nic]) -> Iterator[Finding]:
    teaming = nic.teaming or nic.element
    if not nic.persistent:
        yield from _names_nobody(source, nic, all_nics)
        return
    named = next((other for other in all_nics if other.alias == nic.persistent), None)
    if named is nic:
        yield Finding(line=teaming.line, text=f"the transient {nic.label} names itself as its persistent partner")
    elif named is None:
        if any(other.part == PERSISTENT and not other.alias for other in all_nics):
            return  # that is said of the one without an alias
        known = ", ".join(other.alias for other in all_nics if other.part == PERSISTENT and other.alias)
        yield Finding(
            line=teaming.line,
            text=f"persistent={nic.persistent!r}: no interface has this alias"
            + (f" (persistent ones: {known})" if known else " (give the virtio one an <alias>)"),
        )
    elif named.part == TRANSIENT:
        yield Finding(
            line=teaming.line,
            text=f"persistent={nic.persistent!r} names the transient interface in line {named.line}"
            " (it must name a persistent one)",
        )
    elif not named.part and not _coming(nic, all_nics):
        yield Finding(
            line=named.line,
            text=f"{named.label} is named as persistent but has no <teaming> (<teaming type='persistent'/>)",
            cure=(source.insert(named.element, "<teaming type='persistent'/>"),),
        )


def _names_nobody(source: Source, nic: Nic, all_nics: list[Nic]) -> Iterator[Finding]:
    teaming = nic.teaming or nic.element
    candidates = [other for other in all_nics if other.part == PERSISTENT]
    same = [other for other in candidates if other.mac == nic.mac] or candidates
    alias = same[0].alias if len(same) == 1 else ""
    yield Finding(
        line=teaming.line,
        text=f"the transient {nic.label} names no persistent partner"
        f" (persistent='{alias or 'ALIAS of the virtio interface'}')",
        cure=(source.attribute(teaming, "persistent", alias),) if alias else (),
    )


def _same_alias(all_nics: list[Nic]) -> Iterator[Finding]:
    seen: dict[str, Nic] = {}
    for nic in all_nics:
        if nic.alias and seen.setdefault(nic.alias, nic) is not nic:
            yield Finding(
                line=nic.line,
                text=f"alias {nic.alias!r} is that of the interface in line {seen[nic.alias].line} too",
            )


def _twin(nic: Nic, all_nics: list[Nic]) -> Nic | None:
    """Return another interface with its MAC."""
    return next((other for other in all_nics if other is not nic and nic.mac and other.mac == nic.mac), None)


def _followers(nic: Nic, all_nics: list[Nic]) -> list[Nic]:
    return [other for other in all_nics if other.part == TRANSIENT and other.persistent == nic.alias]


def _coming(nic: Nic, all_nics: list[Nic]) -> bool:
    """Return whether another finding is about the missing half already."""
    aliases = {other.alias for other in all_nics}
    return any(
        other is not nic
        and (
            (other.mac == nic.mac and not other.teaming)
            or (other.part == TRANSIENT and other.persistent not in aliases - {""})
            or (other.part == PERSISTENT and not other.alias)
        )
        for other in all_nics
    )


def _free_alias(all_nics: list[Nic]) -> str:
    taken = {nic.alias for nic in all_nics} | {nic.persistent for nic in all_nics}
    wanted = [nic.persistent for nic in all_nics if nic.part == TRANSIENT and nic.persistent.startswith("ua-")]
    orphans = [alias for alias in wanted if alias not in {nic.alias for nic in all_nics}]
    if len(orphans) == 1:
        return orphans[0]
    return next(alias for number in range(len(taken) + 1) if (alias := f"ua-backup{number}") not in taken)
