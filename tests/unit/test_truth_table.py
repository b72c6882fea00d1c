"""One table of who sends and who receives, run through Python and through C.

A row is a state of the two slaves, with what the pump itself has seen fail since. Its name is that of the
operation in the kernel's behaviour table where one exists.
"""

from typing import NamedTuple

import pytest

from tapbond._core import ffi, lib
from tapbond.model import Decision, ReceiveMode, Role, SlaveFacts
from tapbond.policy import decide

NOW = 1_000_000_000_000
S, P = 0, 1  # their ports; in the table a set of ports is a word of these letters, "." the empty one
NOBODY = -1
ACTIVE = ReceiveMode.ACTIVE

STATES = {"down": (False, False), "no-carrier": (True, False), "ready": (True, True)}


class Row(NamedTuple):
    name: str
    primary: str
    standby: str
    failed: str
    """Slaves whose send failed since they were called ready."""
    sender: int
    receivers: dict[ReceiveMode, str]


TABLE_TEXT = """
situation                                   | primary    | standby    | failed | tx | active | kernel | any
create: no slave yet: dropped               | absent     | absent     | .      | -  | .      | .      | .
transmit: standby if no primary             | absent     | ready      | .      | S  | S      | S      | S
transmit: dropped, standby down             | absent     | down       | .      | -  | .      | S      | S
transmit: dropped, standby without carrier  | absent     | no-carrier | .      | -  | .      | S      | S
transmit: primary without a standby         | ready      | absent     | .      | P  | P      | P      | P
transmit: dropped, primary down, alone      | down       | absent     | .      | -  | .      | P      | P
transmit: dropped, no carrier, alone        | no-carrier | absent     | .      | -  | .      | P      | P
transmit: primary if ready                  | ready      | ready      | .      | P  | P      | P      | PS
transmit: primary, standby down             | ready      | down       | .      | P  | P      | P      | PS
transmit: primary, standby without carrier  | ready      | no-carrier | .      | P  | P      | P      | PS
receive: black hole, primary lost carrier   | no-carrier | ready      | .      | S  | S      | P      | PS
receive: black hole, primary set down       | down       | ready      | .      | S  | S      | P      | PS
link change: none ready, both down          | down       | down       | .      | -  | .      | P      | PS
link change: none ready, down/no-carrier    | down       | no-carrier | .      | -  | .      | P      | PS
link change: none ready, no-carrier/down    | no-carrier | down       | .      | -  | .      | P      | PS
link change: none ready, both no-carrier    | no-carrier | no-carrier | .      | -  | .      | P      | PS
pump: primary failed to send                | ready      | ready      | P      | S  | S      | P      | PS
pump: standby failed, primary goes on       | ready      | ready      | S      | P  | P      | P      | PS
pump: both failed to send                   | ready      | ready      | PS     | -  | .      | P      | PS
pump: primary failed, standby down          | ready      | down       | P      | -  | .      | P      | PS
pump: primary failed, standby absent        | ready      | absent     | P      | -  | .      | P      | P
pump: standby failed, no primary            | absent     | ready      | S      | -  | .      | S      | S
pump: failure of one that is down anyway    | down       | ready      | P      | S  | S      | P      | PS
"""


def read_table(text: str) -> list[Row]:
    rows = []
    for line in text.strip().splitlines()[1:]:
        name, primary, standby, failed, sender, *receivers = (cell.strip(" .") for cell in line.split("|"))
        (who,) = members(sender) or {NOBODY}
        rows.append(Row(name, primary, standby, failed, who, dict(zip(ReceiveMode, receivers, strict=True))))
    return rows


def members(letters: str) -> set[int]:
    return {{"P": P, "S": S}[letter] for letter in letters.strip("-")}


TABLE = read_table(TABLE_TEXT)
ROWS = pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
MODES = pytest.mark.parametrize("rx", list(ReceiveMode))


def facts(case: Row, *, failures: bool) -> list[SlaveFacts]:
    """Return the slaves of a row; with ``failures`` as the control plane sees them: held."""
    found = []
    for port, role, state in ((S, Role.STANDBY, case.standby), (P, Role.PRIMARY, case.primary)):
        if state != "absent":
            up, carrier = STATES[state]
            held = NOW + 1 if failures and port in members(case.failed) else 0
            found.append(SlaveFacts(port=port, role=role, up=up, carrier=carrier, held_until_ns=held))
    return found


def selection(decision: Decision, attached: list[int]):  # noqa: ANN201  (a cffi struct)
    """Write a decision down for C, as Pump.apply() does."""
    found = ffi.new("struct tb_selection *")
    for port in range(lib.TB_PORTS_MAX):
        found.port[port].fd = 100 + port if port in attached else -1
    found.order_len = len(decision.order)
    for place, port in enumerate(decision.order):
        found.order[place] = port
    found.receive = sum(1 << port for port in decision.receive)
    found.receive_sender = decision.receive_sender
    return found


def mask(ports: set[int]) -> int:
    return sum(1 << port for port in ports)


@ROWS
@MODES
def test_python(case: Row, rx: ReceiveMode) -> None:
    decision = decide(rx, facts(case, failures=True), NOW)
    sender = NOBODY if decision.active is None else decision.active
    receivers = ({sender} - {NOBODY}) if decision.receive_sender else decision.receive
    assert sender == case.sender
    assert receivers == members(case.receivers[rx])


@ROWS
@MODES
def test_c(case: Row, rx: ReceiveMode) -> None:
    slaves = facts(case, failures=False)
    chosen = selection(decide(rx, slaves, NOW), [slave.port for slave in slaves])
    sender = lib.tb_select_sender(chosen, mask(members(case.failed)))
    assert sender == case.sender
    assert lib.tb_select_receivers(chosen, sender) == mask(members(case.receivers[rx]))


def test_the_table_has_every_state_of_two_slaves_once() -> None:
    states = [(case.primary, case.standby) for case in TABLE if not case.failed]
    assert len(states) == len(set(states)) == 16
    assert len({case.name for case in TABLE}) == len(TABLE)


def test_c_takes_the_kernels_word_for_a_place_that_is_empty() -> None:
    slaves = facts(TABLE[7], failures=False)
    assert lib.tb_select_sender(selection(decide(ACTIVE, slaves, NOW), [S]), 0) == S


@pytest.mark.parametrize("nonsense", [-128, -1, 32, 127])
def test_c_ignores_an_order_that_names_no_port(nonsense: int) -> None:
    chosen = selection(decide(ACTIVE, [], NOW), [S])
    chosen.order_len = 2
    chosen.order[0], chosen.order[1] = nonsense, S
    assert lib.tb_select_sender(chosen, 0) == S


def test_c_reads_no_further_than_its_order() -> None:
    chosen = selection(decide(ACTIVE, [], NOW), [])
    chosen.order_len = 2**32 - 1
    assert lib.tb_select_sender(chosen, 0) == NOBODY
