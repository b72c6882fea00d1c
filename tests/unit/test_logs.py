"""Lines of log are written by a thread: nobody waits for a reader that does not read."""

import fcntl
import os
import threading

from tapbond.lab import wait_until
from tapbond.service.logs import PatientStream

PIPE_LEN = 4096


def narrow_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_LEN)
    return read, write


def test_lines_arrive_whole_and_in_order() -> None:
    read, write = narrow_pipe()
    stream = PatientStream(write)
    lines = [f"line {number}\n" for number in range(200)]
    for line in lines:
        stream.write(line)
    stream.drain()
    os.close(write)
    with os.fdopen(read) as reader:
        assert reader.read() == "".join(lines)


def test_what_nobody_reads_is_dropped_and_counted() -> None:
    read, write = narrow_pipe()
    stream = PatientStream(write, room=3)
    os.write(write, b"x" * PIPE_LEN)  # full from the beginning
    stream.write("first\n")
    wait_until(lambda: stream.writing, what="the thread to wait for a reader")
    for number in range(10):
        stream.write(f"line {number}\n")
    stream.drain(timeout_s=0)
    os.read(read, PIPE_LEN)
    stream.drain(timeout_s=10)
    os.close(write)
    with os.fdopen(read) as reader:
        text = reader.read()
    assert text == "first\nline 0\nline 1\nline 2\ntapbond: 7 lines of log dropped: nobody read them\n"


def test_a_descriptor_that_does_not_block_loses_nothing() -> None:
    """O_NONBLOCK belongs to the open file: whoever started us may have set it."""
    read, write = narrow_pipe()
    os.write(write, b"x" * PIPE_LEN)
    os.set_blocking(write, False)
    stream = PatientStream(write)
    stream.write("first\n")
    stream.drain(timeout_s=0.05)
    os.read(read, PIPE_LEN)
    stream.drain(timeout_s=10)
    os.close(write)
    with os.fdopen(read) as reader:
        assert reader.read() == "first\n"


def test_a_reader_that_is_gone_is_no_error() -> None:
    read, write = narrow_pipe()
    os.close(read)
    stream = PatientStream(write)
    stream.write("to nobody\n")
    stream.drain(timeout_s=10)
    assert not stream.writing
    assert any(thread.name == "tapbond-log" for thread in threading.enumerate())
    os.close(write)
