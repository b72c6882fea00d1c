"""The steps in their order, from the facts alone: the net_failover document's migrate.sh and reattach-vf.sh."""

from tapbond.migration.facts import ZERO_MAC, Facts, Kind
from tapbond.migration.gueststeps import Move, Plug, SetLink, Unplug
from tapbond.migration.networksteps import AddEntry, RemoveEntry, SetVfMac
from tapbond.migration.step import Step


def plan(facts: Facts) -> list[Step]:
    """Return the steps; pure, so that a journal needs to keep the facts only."""
    return _migrate(facts) if facts.kind is Kind.MIGRATE else _reattach(facts)


def _migrate(facts: Facts) -> list[Step]:
    """Return migrate.sh: up to the move all can be undone, after it only cleaning up is left."""
    return [
        *_set_link(facts),
        Unplug(facts.primary, facts.device, facts.unplug_timeout_s),
        *_set_vf_mac(facts, ZERO_MAC),
        *(AddEntry(entry) for entry in facts.fdb),
        Move(facts.domain, facts.to, facts.migrate_timeout_s),
        *(RemoveEntry(entry) for entry in facts.fdb),
    ]


def _reattach(facts: Facts) -> list[Step]:
    """Return reattach-vf.sh, all of which can be undone."""
    return [
        *(RemoveEntry(entry, undo_text=entry.command("add")) for entry in facts.fdb),
        *_set_vf_mac(facts, facts.mac),
        Plug(facts.primary, facts.device, facts.unplug_timeout_s),
        *_set_link(facts),
    ]


def _set_link(facts: Facts) -> list[Step]:
    if facts.link_goes == facts.link_was_up:
        return []
    return [SetLink(facts.standby, facts.link_goes, facts.link_was_up)]


def _set_vf_mac(facts: Facts, mac: str) -> list[Step]:
    if not facts.pf or mac == facts.vf_mac:
        return []
    return [SetVfMac(facts.pf, facts.vf, mac, facts.vf_mac)]
