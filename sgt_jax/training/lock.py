"""One run at a time in a work directory: the file WORKDIR/run.lock belongs to the process that runs there.

It is created only where it is absent and says who holds it: host, process, when that process started, and a heartbeat that
is renewed every few seconds. A lock is stale if its process is gone from this host, or if its heartbeat is older than ten
minutes. A lock of another host whose heartbeat is younger may be that of a process that was just killed, as when a cluster
puts a job back into its queue: then the start waits until the heartbeat either moves (a live run: refused) or is too old.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from etils import epath

from sgt_jax.data.stored.atomic import is_remote
from sgt_jax.errors import UserError

FILE = "run.lock"
BEAT = 5.0  # seconds between heartbeats
STALE = 600.0  # seconds without one after which a lock is nobody's
_WIDTH = 512  # bytes of the file, so that a heartbeat overwrites the one before in one write


class LockedError(UserError):
    """Another run works in this work directory; the message says which, and what to do."""


class Lock:
    """The lock of a work directory, held from `acquire` to `release`."""

    def __init__(self, workdir: epath.PathLike) -> None:
        self.path = epath.Path(workdir) / FILE
        self._me = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "space": _space(),
        }
        self._me["token"] = os.urandom(8).hex()
        self._ended = threading.Event()
        self._lost = ""

    def acquire(self, steal: bool = False, say: Any = print) -> None:
        """Takes the lock; waits for one that may be stale.

        Args:
          steal: take it from whoever holds it.
          say: gets a line when this waits.

        Raises:
          LockedError: a live run holds it.
        """
        seen, since, told = None, time.monotonic(), False
        while not self._create():
            holder = self._read()
            if holder is None:  # it was released in between
                continue
            if steal or self._is_stale(holder):
                self._remove(holder)
                continue
            who = f"process {holder.get('pid')} on {holder.get('host')}"
            beat = holder.get("heartbeat")
            if self._is_here(holder) or (seen is not None and beat != seen):
                raise LockedError(
                    f"{self.path.parent}: {who} works in this directory (since {holder.get('since')}). Wait for it, choose "
                    "another --workdir, or take the directory from it with --steal-lock"
                )
            if seen is None:
                seen, since = beat, time.monotonic()
            age = max(time.time() - float(beat or 0), 0.0)
            if time.monotonic() - since >= STALE - min(age, STALE) + BEAT:
                self._remove(holder)
                continue
            if not told:
                say(f"{self.path}: {who} gave its last sign of life {age:.0f} s ago; waiting whether it still lives")
                told = True
            time.sleep(min(1.0, BEAT / 5))
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def check(self) -> None:
        """Raises a LockedError if another run has taken the lock from this one."""
        if self._lost:
            raise LockedError(
                f"{self.path}: {self._lost} has taken this work directory; this run ends without writing more"
            )

    def release(self) -> None:
        """Gives the lock back, if it is still held."""
        self._ended.set()
        holder = self._read()
        if holder is not None and holder.get("token") == self._me["token"]:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _content(self) -> bytes:
        facts = self._me | {"since": self._since, "heartbeat": round(time.time(), 3)}
        return json.dumps(facts).encode().ljust(_WIDTH - 1) + b"\n"

    def _create(self) -> bool:
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            if is_remote(self.path):
                system, path = _store(self.path)
                system.pipe_file(path, self._content(), mode="create")  # create-if-absent
                return True
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror or error}); choose another --workdir"
            ) from None
        try:
            os.pwrite(self._file, self._content(), 0)
        except OSError as error:
            os.unlink(self.path)
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); free some space") from None
        return True

    def _read(self) -> dict[str, Any] | None:
        try:
            text = self.path.read_text()
            return json.loads(text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # just being written, or cut off: as old as the file is
            with contextlib.suppress(OSError):
                return {"host": "?", "pid": "?", "heartbeat": float(self.path.stat().mtime)}
            return None

    def _is_here(self, holder: dict[str, Any]) -> bool:
        """Whether it is of a process of this host and process space."""
        return all(holder.get(key) == self._me[key] for key in ("host", "space"))

    def _is_stale(self, holder: dict[str, Any]) -> bool:
        if self._is_here(holder):
            pid = holder.get("pid")
            return not isinstance(pid, int) or _started(pid) != holder.get("started") or pid == os.getpid()
        return time.time() - float(holder.get("heartbeat") or 0) > STALE

    def _remove(self, holder: dict[str, Any]) -> None:
        """Removes a lock that was judged; of several processes that judge it, one succeeds."""
        if is_remote(self.path):
            now = self._read()
            if now is not None and now.get("token") == holder.get("token"):
                self.path.unlink(missing_ok=True)
            return
        aside = f"{os.fspath(self.path)}.{self._me['token']}"
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        taken = None
        with contextlib.suppress(OSError, ValueError):
            taken = json.loads(epath.Path(aside).read_text()).get("token")
        if taken != holder.get("token"):  # another process was quicker, and this is its new lock: put it back
            with contextlib.suppress(FileExistsError):
                os.link(aside, self.path)
        os.unlink(aside)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                holder = self._read()
                if holder is not None and holder.get("token", self._me["token"]) != self._me["token"]:
                    self._lost = f"process {holder.get('pid')} on {holder.get('host')}"
                    return
                if is_remote(self.path):
                    self.path.write_bytes(self._content())
                else:
                    os.pwrite(self._file, self._content(), 0)
            except OSError:
                continue  # a disk that answers no more is found by those who write the run's files


@contextlib.contextmanager
def locked(workdir: epath.PathLike, steal: bool = False, say: Any = print) -> Iterator[Lock]:
    """Holds the lock of a work directory inside; see `Lock.acquire`."""
    lock = Lock(workdir)
    lock.acquire(steal, say)
    try:
        yield lock
    finally:
        lock.release()


def _started(pid: int) -> str:
    """When a process of this host started, in ticks since the machine did; "" if it is gone (or a zombie)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        if os.path.isdir("/proc/self"):
            return ""
    try:  # no /proc: whether it is there is all that can be known
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "there"


def _space() -> str:
    """The space in which process numbers mean something: containers of one host have their own."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _store(path: epath.Path) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(os.fspath(path))
