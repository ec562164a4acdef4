"""`<workdir>/overlay/withdrawn`: items that must not be shown, one id a line."""

from __future__ import annotations

from pathlib import Path


class Overlay:
    """Reads the file when it has changed."""

    def __init__(self, workdir: Path) -> None:
        self._path = workdir / "overlay" / "withdrawn"
        self._stamp: tuple[int, ...] | None = None

    def read(self) -> frozenset[str] | None:
        """The withdrawn items; None if the file is as it was at the last call."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp == self._stamp:
                return None
            # whatever the locale; a line of broken bytes withdraws nothing, the others do
            text = self._path.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            if self._stamp == ():
                return None
            stamp, text = (), ""
        self._stamp = stamp
        return frozenset(line.strip() for line in text.split("\n") if line.strip())
