"""The pair in a domain's XML, as libvirt shows it live and as it is defined."""

import pytest

from tapbond.migration import PreconditionError
from tapbond.migration.libvirtpair import device_name, find_pair, find_primary, guest_of, link_xml
from tapbond.teaming import Source

MAC = "52:54:00:00:12:53"
STANDBY = f"""<interface type='bridge'>
      <mac address='{MAC}'/>
      <target dev='vnet7'/>
      <model type='virtio'/>
      <link state='down'/>
      <alias name='ua-backup0'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>"""
VF = f"""<interface type='hostdev' managed='yes'>
      <mac address='{MAC}'/>
      <source><address type='pci' domain='0x0000' bus='0x42' slot='0x02' function='0x5'/></source>
      <alias name='hostdev0'/>
    </interface>"""
OTHER = """<interface type='network'>
      <mac address='52:54:00:00:00:99'/><model type='virtio'/><alias name='net1'/>
    </interface>"""


def domain(*devices: str) -> Source:
    return Source(f"<domain><devices>{''.join(devices)}</devices></domain>".encode(), "vm-01")


def test_two_nics_of_one_mac_are_the_pair_without_any_teaming() -> None:
    pair = find_pair(domain(OTHER, STANDBY, VF))
    assert (pair.alias, pair.mac, pair.tap, pair.link_up) == ("ua-backup0", MAC, "vnet7", False)
    assert pair.device == VF


def test_the_teamed_one_goes_first() -> None:
    teamed = OTHER.replace("<alias", "<teaming type='persistent'/><alias")
    assert find_pair(domain(teamed, STANDBY, VF)).alias == "net1"


def test_a_named_one_goes_before_all() -> None:
    assert find_pair(domain(OTHER, STANDBY, VF), "net1").mac == "52:54:00:00:00:99"


def test_without_its_vf_a_lonely_virtio_nic_is_the_standby() -> None:
    pair = find_pair(domain(STANDBY))
    assert pair.device == ""
    with pytest.raises(
        PreconditionError, match=r"which NIC is the standby\? \(--standby ALIAS; virtio: net1, ua-"
    ):
        find_pair(domain(OTHER, STANDBY))


def test_an_alias_that_a_definition_does_not_keep_is_found_by_its_mac() -> None:
    kept = STANDBY.replace("<alias name='ua-backup0'/>", "")
    assert find_pair(domain(OTHER, kept, VF), "net0", MAC).device == VF


def test_a_vf_that_is_teamed_but_has_another_mac_is_a_problem() -> None:
    wrong = VF.replace("12:53", "12:54").replace(
        "<alias", "<teaming type='transient' persistent='ua-backup0'/><alias"
    )
    (problem,) = find_pair(domain(STANDBY, wrong), "ua-backup0").problems
    assert "is teamed with ua-backup0, whose MAC 52:54:00:00:12:53 is another" in problem


def test_the_primary_has_an_alias_while_it_is_plugged_and_a_pci_address_of_the_host() -> None:
    primary = find_primary(domain(OTHER, STANDBY, VF), device_name(MAC))
    assert (primary.alias, primary.pci, primary.xml) == ("hostdev0", "0000:42:02.5", VF)
    assert find_primary(domain(OTHER, STANDBY), device_name(MAC)).alias == ""


@pytest.mark.parametrize("up", [True, False])
def test_the_link_state_alone_is_changed(up: bool) -> None:
    state = "up" if up else "down"
    changed = link_xml(domain(OTHER, STANDBY, VF), "ua-backup0", up)
    assert changed.count("<link ") == 1
    assert f"<link state='{state}'/>" in changed
    assert "<alias name='ua-backup0'/>" in changed
    assert find_pair(domain(changed)).link_up is up
    with pytest.raises(PreconditionError, match="ua-gone"):
        link_xml(domain(STANDBY), "ua-gone", up)


def test_a_device_of_another_mac_is_a_problem() -> None:
    pair = find_pair(domain(STANDBY))
    assert guest_of(pair, VF, running=True).problems == ()
    guest = guest_of(pair, VF.replace("12:53", "12:54"), running=True)
    assert guest.problems == (f"--device: no NIC of the guest's MAC, {MAC}",)
