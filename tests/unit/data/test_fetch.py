"""Downloads against a server on loopback that cuts connections, changes files and refuses."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tesserec.data.fetch import FetchOptions, fetch, source_of, urls_of
from tesserec.errors import DataError, UsageError

DATA = bytes(range(256)) * 4000  # about 1 MB
QUICK = FetchOptions(retries=3, wait_s=0.01, timeout_s=5)


@dataclass
class Behaviour:
    """What the server does; `log` gathers the Range header of each request."""

    body: bytes = DATA
    cut_after: int | None = None  # bytes that a response sends before the connection dies
    ranges: bool = True
    tag: str | None = '"v1"'
    status: int = 200
    log: list[str | None] = field(default_factory=list)


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.log.append(asked)
            if behaviour.status != 200:
                self.send_error(behaviour.status)
                return
            start, body = 0, behaviour.body
            current = self.headers.get("If-Range") in (None, behaviour.tag)
            if asked and behaviour.ranges and current:
                start = int(re.findall(r"\d+", asked)[0])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if behaviour.tag:
                self.send_header("ETag", behaviour.tag)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = len(body) if behaviour.cut_after is None else start + behaviour.cut_after
            self.wfile.write(body[start:end])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_cut_connection_is_resumed_where_it_broke(tmp_path: Path) -> None:
    behaviour = Behaviour(cut_after=300_000)
    seen: list[tuple[str, int, int | None]] = []
    with serving(behaviour) as host:
        told = fetch(
            f"{host}/a/file.bin?x=1", tmp_path, sha256=hashlib.sha256(DATA).hexdigest(),
            progress=lambda *step: seen.append(step), options=QUICK,
        )  # fmt: skip
    assert (tmp_path / "file.bin").read_bytes() == DATA
    assert behaviour.log == [None, *(f"bytes={n}-" for n in (300_000, 600_000, 900_000))]
    assert told == {
        "path": str(tmp_path), "files": ["file.bin"], "bytes": len(DATA),
        "sha256": hashlib.sha256(DATA).hexdigest(),
    }  # fmt: skip
    assert seen[-1] == ("file.bin", len(DATA), len(DATA))
    assert [n for _, n, _ in seen] == sorted(n for _, n, _ in seen)
    assert {total for _, _, total in seen} == {len(DATA)}
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_later_call_goes_on_from_the_part(tmp_path: Path) -> None:
    behaviour = Behaviour(cut_after=300_000)
    with serving(behaviour) as host:
        url = f"{host}/file.bin"
        impatient = FetchOptions(retries=1, wait_s=0, timeout_s=5)
        behaviour.cut_after = 0
        with pytest.raises(DataError, match=r"file\.bin\.part is kept"):
            fetch(url, tmp_path, options=impatient)
        behaviour.cut_after = 400_000
        fetch(url, tmp_path, options=QUICK)
        assert (tmp_path / "file.bin").read_bytes() == DATA
        asked = len(behaviour.log)
        fetch(url, tmp_path, options=QUICK)  # it is there: no request
        assert len(behaviour.log) == asked


def test_a_whole_part_is_not_fetched_again(tmp_path: Path) -> None:
    behaviour = Behaviour()
    (tmp_path / "file.bin.part").write_bytes(DATA)
    (tmp_path / "file.bin.part.json").write_text('{"version": "\\"v1\\""}')
    with serving(behaviour) as host:
        fetch(f"{host}/file.bin", tmp_path, options=QUICK)
    assert behaviour.log == [f"bytes={len(DATA)}-"]
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize("tag", ['"v2"', None, 'W/"v1"'])
def test_a_file_that_changed_is_begun_anew(tmp_path: Path, tag: str | None) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"old bytes")
    (tmp_path / "file.bin.part.json").write_text('{"version": "\\"v1\\""}')
    with serving(Behaviour(tag=tag)) as host:
        fetch(f"{host}/file.bin", tmp_path, options=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_a_server_without_ranges_gives_the_whole_file_or_an_end(tmp_path: Path) -> None:
    behaviour = Behaviour(ranges=False, cut_after=100)
    with serving(behaviour) as host:
        with pytest.raises(DataError, match="connection was cut"):
            fetch(f"{host}/file.bin", tmp_path, options=QUICK)
        assert len(behaviour.log) == 1 + QUICK.retries
        behaviour.cut_after = None
        fetch(f"{host}/file.bin", tmp_path, options=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == DATA


def test_wrong_bytes_never_get_the_name(tmp_path: Path) -> None:
    with serving(Behaviour()) as host:
        with pytest.raises(DataError, match=r"has sha256 .*, not 0000"):
            fetch(f"{host}/file.bin", tmp_path, sha256="0" * 64, options=QUICK)
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "file.bin").write_bytes(b"stale")
        fetch(f"{host}/file.bin", tmp_path, sha256=hashlib.sha256(DATA).hexdigest(), options=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == DATA


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (503, 3)])
def test_refusals_and_troubles(tmp_path: Path, status: int, requests: int) -> None:
    behaviour = Behaviour(status=status)
    with serving(behaviour) as host, pytest.raises(DataError, match=str(status)):
        fetch(f"{host}/file.bin", tmp_path, options=QUICK)
    assert len(behaviour.log) == requests


def test_no_server_is_told(tmp_path: Path) -> None:
    with serving(Behaviour()) as host:
        pass
    with pytest.raises(DataError, match="could not be fetched"):
        fetch(f"{host}/file.bin", tmp_path, options=QUICK)


def test_a_zip_is_unpacked_inside_the_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        pack.writestr("ml-tiny/u.data", "5\t1\t3\t100\n")
        pack.writestr("ml-tiny/../../outside", "kept inside")
    folder = tmp_path / "data"
    with serving(Behaviour(body=buffer.getvalue())) as host:
        told = fetch(f"{host}/ml-tiny.zip", folder, options=QUICK)
    assert (folder / "ml-tiny" / "u.data").read_text() == "5\t1\t3\t100\n"
    assert not (tmp_path / "outside").exists()
    assert told["path"] == str(folder / "ml-tiny")
    with serving(Behaviour(body=b"no zip")) as host, pytest.raises(DataError, match="unpacked"):
        fetch(f"{host}/other.zip", folder, options=QUICK)


def test_names_stand_for_urls(tmp_path: Path) -> None:
    reviews, meta = urls_of("amazon2014/Beauty")
    assert reviews.endswith("/reviews_Beauty_5.json.gz") and meta.endswith("/meta_Beauty.json.gz")
    assert urls_of("amazon2023/All_Beauty")[1].endswith("/meta_All_Beauty.jsonl.gz")
    assert urls_of("movielens/ml-100k")[0].endswith("/ml-100k.zip")
    assert source_of("amazon2023-5core/Toys") == "amazon2023" and source_of("http://x/y") is None
    for name in ("amazon2015/Beauty", "movielens", "movielens/"):
        with pytest.raises(UsageError, match="unknown data set"):
            urls_of(name)
    with pytest.raises(UsageError, match="names no file"):
        fetch("ftp://host/file", tmp_path)
    with pytest.raises(UsageError, match="1 checksums for 2 files"):
        fetch("amazon2014/Beauty", tmp_path, sha256="00")
