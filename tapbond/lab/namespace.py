"""An anonymous network namespace with one thread that lives inside it."""

from __future__ import annotations

import errno
import os
import queue
import socket
import subprocess
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from pyroute2 import IPRoute

from tapbond._core import lib

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
T = TypeVar("T")

_LOOPBACK = 1
_CLOSE_S = 5.0


def checked(result: int, what: str) -> int:
    """Return a C function's result, or raise OSError if it is a ``-errno``."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result


class _Worker(threading.Thread):
    """Runs jobs one at a time inside a namespace.

    Not a ThreadPoolExecutor: that one waits at exit, for ever, for a job that hangs, and tells nothing
    about why its initializer failed.
    """

    def __init__(self, name: str, fd: int) -> None:
        super().__init__(name=f"netns-{name}", daemon=True)
        self._fd = fd
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._closed = False

    def run(self) -> None:
        entered = lib.tb_netns_enter(self._fd)
        while (job := self._jobs.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                checked(entered, "cannot enter the network namespace")
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
                future.set_exception(error)
            del job, future, call

    def submit(self, call: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise RuntimeError(f"{self.name}: the namespace is closed")
        future: Future[T] = Future()
        self._jobs.put((future, call))
        return future

    def close(self) -> None:
        self._closed = True
        self._jobs.put(None)
        self.join(_CLOSE_S)
        if self.is_alive():
            raise TimeoutError(f"{self.name}: still busy after {_CLOSE_S:g} s")


class Namespace:
    """A new network namespace, loopback up, gone when closed (network_namespaces(7)).

    It has no name in the filesystem and needs no mount, so it works for root of a user namespace too:
    it takes CAP_SYS_ADMIN and CAP_NET_ADMIN over the caller's user namespace, else OSError (EPERM).
    All methods may be called from any thread. ``timeout`` in seconds limits each :meth:`run`.
    """

    def __init__(self, name: str, timeout: float = 30.0) -> None:
        self.name = name
        self.fd = checked(lib.tb_netns_create(), f"cannot make the network namespace {name}")
        self._timeout = timeout
        self._ipr: Any = None
        self._children: list[subprocess.Popen[Any]] = []
        self._worker = _Worker(name, self.fd)
        self._worker.start()
        try:
            self.netlink(lambda ipr: ipr.link("set", index=_LOOPBACK, state="up"))
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """Where the namespace is found while this process lives, as for ``nsenter --net=``."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @property
    def inode(self) -> int:
        """The namespace's number, as in ``net:[4026531840]``."""
        return os.fstat(self.fd).st_ino

    def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``fn(*args, **kwargs)`` as run in the thread inside the namespace; it raises what fn raises.

        TimeoutError: fn took longer than the namespace's timeout (it goes on, and later calls wait for it).
        """
        future = self._worker.submit(lambda: fn(*args, **kwargs))
        try:
            return future.result(self._timeout)
        except TimeoutError as error:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError(f"{self.name}: no result within {self._timeout:g} s") from error

    def netlink(self, fn: Callable[[Any], T]) -> T:
        """Return ``fn(ipr)``, ipr being this namespace's pyroute2 IPRoute.

        Use it nowhere else: pyroute2's synchronous IPRoute opens another socket in each thread that uses it.
        """
        return self.run(self._with_ipr, fn)

    def _with_ipr(self, fn: Callable[[Any], T]) -> T:
        if self._ipr is None:
            self._ipr = IPRoute()
        return fn(self._ipr)

    def index_of(self, ifname: str) -> int:
        """Return an interface's index; OSError (ENODEV) if there is none of that name."""
        try:
            return self.run(socket.if_nametoindex, ifname)
        except OSError as error:
            raise OSError(errno.ENODEV, f"{ifname}: no such interface in {self.name}") from error

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> socket.socket:
        """Return a socket made inside, which may be used, and must be closed, from anywhere."""
        return self.run(socket.socket, family, kind, proto)

    def spawn(self, argv: Sequence[str], **popen_kwargs: Any) -> subprocess.Popen[Any]:
        """Start a program inside and return it; it is ended by :meth:`close` if it still runs then."""
        child: subprocess.Popen[Any] = self.run(lambda: subprocess.Popen(argv, **popen_kwargs))  # noqa: S603
        self._children = [*(c for c in self._children if c.poll() is None), child]
        return child

    def check_output(self, argv: Sequence[str], timeout: float = 30.0) -> str:
        """Return what a program run inside writes, waiting at most ``timeout`` seconds.

        CalledProcessError (with ``stderr``) if it fails, TimeoutExpired if it does not end.
        """
        pipe = subprocess.PIPE
        with self.spawn(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as child:
            try:
                out, err = child.communicate(timeout=timeout)
            except BaseException:
                child.kill()
                raise
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, list(argv), out, err)
        return str(out)

    def close(self) -> None:
        """End the programs started inside and the thread; the namespace goes with the last socket in it.

        TimeoutError: a job still runs in the thread after 5 s.
        """
        if self.fd < 0:
            return
        for child in self._children:
            _end(child)
        try:
            if self._ipr is not None and self._worker.is_alive():
                self._worker.submit(self._ipr.close)
            self._worker.close()
        finally:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _end(child: subprocess.Popen[Any]) -> None:
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(2.0)
    if child.poll() is None:
        child.kill()
        child.wait(_CLOSE_S)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
