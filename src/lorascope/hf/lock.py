"""One run at a time: a lock that ends with its process, however that ends."""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Lock", "take"]

_UNKNOWN = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What file systems without locks say."""


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds.

    Attributes:
        path: its file, which says nothing by being there: it may be left of a killed run.
        file: open for as long as it is held.
    """

    path: Path
    file: BinaryIO

    def release(self) -> None:
        """Give it up and remove its file; a second time nothing happens."""
        if not self.file.closed:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            self.file.close()


def take(path: Path) -> Lock | None:
    """Take the lock of a file, which is made where it is missing.

    Returns:
        None where the platform or the file system has no such locks: there nobody tells two runs apart.

    Raises:
        BlockingIOError: another holds it.
        OSError: the file cannot be made.
    """
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # Windows
        return None
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno not in _UNKNOWN:
                raise
            path.unlink(missing_ok=True)
            return None
        # whoever held it may have removed the file since it was opened here
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return Lock(path, file)
        file.close()
