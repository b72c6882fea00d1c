"""``tapbond teaming``: the document's pair, broken in every way that libvirt or the guest would take amiss."""

import contextlib
import os
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tapbond.cli import cli
from tapbond.teaming import Source, XmlError, check, complete

DOCUMENT = b"""\
 <interface type='network'>
   <mac address='52:54:00:00:12:53'/>
   <source network='enp66s0f0_br'/>
   <target dev='tap01'/>
   <model type='virtio'/>
   <driver name='vhost' queues='4'/>
   <link state='down'/>
   <teaming type='persistent'/>
   <alias name='ua-backup0'/>
 </interface>
 <interface type='hostdev' managed='yes'>
   <mac address='52:54:00:00:12:53'/>
   <source>
     <address type='pci' domain='0x0000' bus='0x42' slot='0x02' function='0x5'/>
   </source>
   <teaming type='transient' persistent='ua-backup0'/>
 </interface>
"""
"""The domain XML of the kernel's Documentation/networking/net_failover.rst."""

DOMAIN = (
    b"<?xml version='1.0' encoding='UTF-8'?>\n<domain type='kvm' "
    b"xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n  <!-- a > b & 'c' -->\n  <name>vm-01</name>\n"
    b"  <description><![CDATA[<interface type='hostdev'>]]></description>\n  <devices>\n"
    + DOCUMENT
    + b"  </devices>\n"
    b"  <qemu:commandline><qemu:arg value='-x  y'/></qemu:commandline>\n</domain>\n"
)

STANDBY, VF = 1, 11
"""The lines where the two begin."""

BROKEN = {
    "no transient": (rb"(?s) <interface type='hostdev'.*", b"", STANDBY, "no transient partner"),
    "no persistent": (rb"(?s)^ <interface type='network'.*?</interface>\n", b"", 6, "no interface has this alias"),
    "no pair at all": (
        rb"(?s)   <teaming[^\n]*\n|52:54:00:00:12:53(?=.*persistent=)",
        b"",
        STANDBY,
        "there is no pair",
    ),
    "unknown type": (rb"type='persistent'", b"type='standby'", 8, "teaming type 'standby' is unknown"),
    "names nobody": (rb" persistent='ua-backup0'", b"", 16, "names no persistent partner"),
    "names a stranger": (rb"persistent='ua-backup0'", b"persistent='ua-other'", 16, "no interface has this alias"),
    "no alias": (rb"   <alias[^\n]*\n", b"", STANDBY, "no alias that the other could name"),
    "alias of libvirt's own": (rb"ua-backup0", b"net0", 9, "does not begin with 'ua-'"),
    "two MACs": (rb"(?s)(hostdev.*?)12:53", rb"\g<1>12:54", 12, "is not that of its partner"),
    "no MAC": (rb"(?s)(hostdev[^\n]*\n)[^\n]*\n", rb"\1", VF, "has no MAC"),
    "a group's MAC": (rb"52:54:00:00:12:53", b"53:54:00:00:12:53", 2, "not a MAC that an interface can have"),
    "a MAC cut short": (rb"52:54:00:00:12:53", b"52:54:00:12:53", 2, "not a MAC that an interface can have"),
    "e1000e": (rb"'virtio'", b"'e1000e'", 5, "is e1000e, not virtio"),
    "no model": (rb"   <model[^\n]*\n", b"", STANDBY, "has no model"),
    "link up": (rb"'down'", b"'up'", 7, "is up: down until a migration"),
    "link not said": (rb"   <link[^\n]*\n", b"", STANDBY, "is up: down until a migration"),
    "unknown driver": (rb"'vhost'", b"'vhost-user'", 6, "driver 'vhost-user' is unknown"),
    "no queues": (rb"queues='4'", b"queues='none'", 6, "is not a number of queues"),
    "no device": (rb"(?s)  <source>.*?</source>\n", b"", VF, "does not say which device of the host"),
    "no VF": (rb"'hostdev'", b"'bridge'", VF, "is no device of the host"),
    "persistent is a VF": (
        rb"type='network'",
        b"type='hostdev'",
        STANDBY,
        "persistent <interface> ua-backup0 is a device of the host",
    ),
    "persistent without teaming": (
        rb"   <teaming type='persistent'/>\n",
        b"",
        STANDBY,
        "has the MAC of the transient one",
    ),
    "transient without teaming": (rb"   <teaming type='transient[^\n]*\n", b"", VF, "but no <teaming>"),
    "names itself": (
        rb"<teaming type='transient' persistent='ua-backup0'/>",
        b"<teaming type='transient' persistent='ua-vf'/><alias name='ua-vf'/>",
        16,
        "names itself",
    ),
    "two transients": (rb"(?s)( <interface type='hostdev'.*)", rb"\1\1", 18, "a pair has two"),
    "one alias twice": (
        rb"(?s)( <interface type='network'.*?</interface>\n)",
        rb"\1\1",
        11,
        "alias 'ua-backup0' is that of the interface in line",
    ),
}

FIXABLE = [
    "names nobody",
    "no alias",
    "no MAC",
    "no model",
    "link up",
    "link not said",
    "persistent without teaming",
    "transient without teaming",
]


def broken(name: str) -> tuple[bytes, int, str]:
    pattern, replacement, line, words = BROKEN[name]
    data = re.sub(pattern, replacement, DOCUMENT)
    assert data != DOCUMENT
    return data, line, words


def errors(data: bytes) -> list[tuple[int, str]]:
    return [(found.line, found.text) for found in check(Source(data)) if found.severity == "error"]


def test_the_documents_domain_is_accepted_as_it_stands() -> None:
    assert check(Source(DOCUMENT)) == []


def test_the_same_in_a_whole_domain_is_accepted() -> None:
    assert check(Source(DOMAIN)) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pair_is_refused_with_the_words_and_the_line(name: str) -> None:
    data, line, words = broken(name)
    found = errors(data)
    assert [where for where, text in found if words in text] == [line], found


@pytest.mark.parametrize("name", set(BROKEN) - {"names itself", "no VF", "persistent is a VF", "two transients"})
def test_one_fault_is_said_once(name: str) -> None:
    assert len(errors(broken(name)[0])) <= (2 if "MAC" in name or "twice" in name else 1)


@pytest.mark.parametrize("name", BROKEN)
def test_lines_are_those_of_the_whole_file(name: str) -> None:
    data, line, words = broken(name)
    ahead = DOMAIN.index(DOCUMENT)
    whole = DOMAIN[:ahead] + data + DOMAIN[ahead + len(DOCUMENT) :]
    offset = DOMAIN[:ahead].count(b"\n")
    assert [where for where, text in errors(whole) if words in text] == [line + offset]


@pytest.mark.parametrize("name", FIXABLE)
def test_missing_parts_are_written(name: str) -> None:
    completed = complete(Source(broken(name)[0]))
    assert check(completed) == []
    assert complete(completed).data == completed.data


@pytest.mark.parametrize("name", FIXABLE)
def test_what_is_added_is_indented_as_its_sisters_are(name: str) -> None:
    data = complete(Source(broken(name)[0])).data
    assert sorted(line.strip() for line in data.splitlines()) == sorted(
        line.strip() for line in DOCUMENT.splitlines()
    )
    assert {len(line) - len(line.lstrip()) for line in data.splitlines()} == {1, 3, 5}


def test_two_interfaces_that_share_nothing_but_a_mac_become_a_pair() -> None:
    bare = re.sub(rb"   <(teaming|alias|link)[^\n]*\n", b"", DOCUMENT)
    completed = complete(Source(bare))
    assert check(completed) == []
    assert b"<teaming type='transient' persistent='ua-backup0'/>" in completed.data


def test_an_interface_written_as_one_empty_tag_gets_children() -> None:
    one = b"<devices>\n\t<interface type='hostdev' />\n</devices>"
    source = Source(one)
    inserted = source.edited(source.insert(source.elements("interface")[0], "<teaming type='transient'/>")).data
    assert inserted == (
        b"<devices>\n\t<interface type='hostdev'>\n\t  <teaming type='transient'/>\n\t</interface>\n</devices>"
    )


def is_subsequence(part: bytes, whole: bytes) -> bool:
    rest = iter(whole)
    return all(byte in rest for byte in part)


LINES = DOCUMENT.splitlines(keepends=True)
INNER = [number for number, line in enumerate(LINES) if b"/>" in line]


@given(
    st.sets(st.sampled_from(INNER)),
    st.sampled_from([b"\n", b"\r\n"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20),
)
def test_nothing_that_was_there_is_changed_whatever_is_missing(gone: set[int], end: bytes, comment: str) -> None:
    kept = b"".join(line for number, line in enumerate(LINES) if number not in gone)
    remark = comment.replace("-", "").encode()
    data = (b"<!--" + remark + b"-->" + kept + b"<?pi " + remark.replace(b"?", b"") + b"?>").replace(b"\n", end)
    completed = complete(Source(data)).data
    assert is_subsequence(data, completed)
    assert complete(Source(completed)).data == completed
    if end == b"\r\n":
        assert completed.count(b"\n") == completed.count(b"\r\n")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_input_breaks_it(data: bytes) -> None:
    for before, after in ((b"", b""), (b"<interface>", b"</interface>"), (b"<d><interface type='", b"'/></d>")):
        with contextlib.suppress(XmlError):
            check(Source(before + data + after))


def test_entity_bombs_are_refused_unread() -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE d [<!ENTITY l0 "lol">{entities}]>\n<domain>&l9;</domain>'
    with pytest.raises(XmlError, match="domain:1: has a document type"):
        Source(bomb.encode())


def test_external_entities_are_refused() -> None:
    with pytest.raises(XmlError, match="document type"):
        Source(b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain>&x;</domain>')


def test_elements_nested_without_end_are_refused() -> None:
    with pytest.raises(XmlError, match="deep"):
        Source(b"<a>" * 5000 + b"</a>" * 5000)


@pytest.mark.parametrize(
    ("data", "line"), [(b"<domain>\n<a></b></domain>", 2), (b"", 1), (b"<a/>\n<a/>\n<", 3), (b"vm-01\n", 1)]
)
def test_what_is_not_xml_is_refused_with_the_line(data: bytes, line: int) -> None:
    with pytest.raises(XmlError, match=f"domain:{line}: not well-formed XML"):
        Source(data)


def test_an_encoding_that_is_not_made_of_bytes_is_checked_but_not_changed() -> None:
    text = DOMAIN.decode().replace("UTF-8", "UTF-16").replace("<link state='down'/>", "")
    with pytest.raises(XmlError, match="encoding"):
        complete(Source(text.encode("utf-16")))


def test_the_command_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "vm.xml"
    path.write_bytes(broken("link up")[0])
    told = CliRunner().invoke(cli, ["teaming", str(path)])
    assert told.exit_code == 1
    assert told.output.startswith(f"{path}:7: error: the link of the persistent")
    assert "[--fix writes it]" in told.output
    assert path.read_bytes() == broken("link up")[0]


def test_the_command_completes_a_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "vm.xml"
    path.write_bytes(broken("link up")[0])
    path.chmod(0o640)
    told = CliRunner().invoke(cli, ["teaming", "--fix", str(path)])
    assert (told.exit_code, told.output) == (0, f"{path}: the pair is complete\n")
    assert path.read_bytes() == DOCUMENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["vm.xml"]


def test_the_command_reads_standard_input_and_writes_standard_output() -> None:
    told = CliRunner().invoke(cli, ["teaming", "-", "--output", "-"], input=broken("link up")[0])
    assert told.exit_code == 0
    assert told.stdout_bytes == DOCUMENT


def test_notes_alone_are_no_failure() -> None:
    data = DOCUMENT.replace(b" managed='yes'", b" managed='no'").replace(b"tap01", b"vnet3")
    told = CliRunner().invoke(cli, ["teaming", "-", "--json"], input=data)
    assert told.exit_code == 0
    assert told.output.count('"severity":"note"') == 2
