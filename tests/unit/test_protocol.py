"""What goes over the control socket."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.service.protocol import END, Reply, Request, encode

json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
requests = st.builds(
    Request, method=st.text(), parameters=st.dictionaries(st.text(), json, max_size=4), more=st.booleans()
)
replies = st.builds(
    Reply,
    parameters=st.dictionaries(st.text(), json).map(lambda body: msgspec.Raw(msgspec.json.encode(body))),
    error=st.none() | st.text(min_size=1),
    continues=st.booleans(),
)


@given(requests)
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    assert msgspec.json.decode(encode(request)[:-1], type=Request) == request


@given(replies)
def test_a_reply_comes_back_as_it_was(reply: Reply) -> None:
    found = msgspec.json.decode(encode(reply)[:-1], type=Reply)
    assert (found.error, found.continues) == (reply.error, reply.continues)
    assert msgspec.json.decode(found.parameters) == msgspec.json.decode(reply.parameters)


@given(requests | replies)
def test_the_only_zero_byte_is_the_last(message: Request | Reply) -> None:
    assert encode(message).find(END) == len(encode(message)) - 1


@given(st.lists(requests, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_however_the_bytes_are_cut_the_same_messages_arrive(messages: list[Request], cuts: list[int]) -> None:
    async def main() -> list[Request]:
        reader = asyncio.StreamReader()
        data = b"".join(map(encode, messages))
        turn = 0
        while data:
            piece, data = data[: cuts[turn % len(cuts)]], data[cuts[turn % len(cuts)] :]
            reader.feed_data(piece)
            turn += 1
        reader.feed_eof()
        return [
            msgspec.json.decode((await reader.readuntil(END))[:-1], type=Request) for _ in range(len(messages))
        ]

    assert asyncio.run(main()) == messages


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"method": 1}', b'{"method": "x", "parameters": []}', b"\xff"]
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(data, type=Request)


def test_requests_do_not_share_their_parameters() -> None:
    first, second = Request(method="a"), Request(method="b")
    first.parameters["x"] = 1
    assert second.parameters == {}


def test_a_short_answer_is_short() -> None:
    assert encode(Reply()) == b"{}\0"
