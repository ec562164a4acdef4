"""`tesserec data fetch`: download files with resume, checksum and progress.

The bytes gather in `<name>.part` beside the target; `<name>.part.json` says of which version of the
file they are. The target appears by one rename, after its length and checksum were found right.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tesserec.artifacts import hash_of_files, sha256_of
from tesserec.errors import DataError, UsageError

Progress = Callable[[str, int, int | None], None]  # file name, bytes so far, bytes in all
BLOCK = 1 << 18
_log = logging.getLogger(__name__)

AMAZON_2014 = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023"
MOVIELENS = "https://files.grouplens.org/datasets/movielens"
PATTERNS: Mapping[str, tuple[str, ...]] = {
    "amazon2014": (f"{AMAZON_2014}/reviews_{{}}_5.json.gz", f"{AMAZON_2014}/meta_{{}}.json.gz"),
    "amazon2023": (
        f"{AMAZON_2023}/raw/review_categories/{{}}.jsonl.gz",
        f"{AMAZON_2023}/raw/meta_categories/meta_{{}}.jsonl.gz",
    ),
    "amazon2023-5core": (
        f"{AMAZON_2023}/benchmark/5core/rating_only/{{}}.csv.gz",
        f"{AMAZON_2023}/raw/meta_categories/meta_{{}}.jsonl.gz",
    ),
    "movielens": (f"{MOVIELENS}/{{}}.zip",),
}


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """How patiently to fetch."""

    retries: int = 5  # attempts without a single new byte before giving up
    wait_s: float = 1.0  # before the first retry; doubles up to 30 s
    timeout_s: float = 30.0


def urls_of(name: str) -> tuple[str, ...]:
    """URLs of a data set such as `amazon2014/Beauty` or `movielens/ml-1m`; a URL stays one.

    Raises:
        UsageError: no such family.
    """
    if "://" in name:
        return (name,)
    family, slash, part = name.partition("/")
    if family not in PATTERNS or not slash or not part:
        known = ", ".join(f"{family}/NAME" for family in PATTERNS)
        raise UsageError(f"unknown data set {name!r}; use a URL, or one of {known}")
    return tuple(pattern.format(part) for pattern in PATTERNS[family])


def source_of(name: str) -> str | None:
    """The `data.source` that reads what `fetch(name)` brings; None for a bare URL."""
    family = name.partition("/")[0].removesuffix("-5core")
    return family if family in PATTERNS else None


def fetch(
    what: str | Sequence[str],
    folder: Path,
    *,
    sha256: str | Sequence[str | None] | None = None,
    progress: Progress | None = None,
    options: FetchOptions | None = None,
) -> dict[str, Any]:
    """Fetch the files of a data set's name, or of URLs, into `folder`; unpack zip files there.

    A file that is there already (with the right checksum, if one is given) is not fetched again.
    Returns {path, files, bytes, sha256}: `sha256` is that of the file, or one over several; `path`
    is `folder`, or the one folder inside it that a zip file unpacked to.

    Raises:
        UsageError: an unknown name, or another number of checksums than of files.
        DataError: the server gave up, or the bytes have another checksum.
    """
    names = [what] if isinstance(what, str) else list(what)
    urls = [url for name in names for url in urls_of(name)]
    sums = [sha256] if isinstance(sha256, str) else list(sha256 or [None] * len(urls))
    if len(sums) != len(urls):
        raise UsageError(
            f"{len(sums)} checksums for {len(urls)} files; give one for each, in order"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[str, Any]] = {}
    for url, wanted in zip(urls, sums, strict=True):
        path = fetch_file(url, folder, wanted, progress=progress, options=options or FetchOptions())
        files[path.name] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    hashes = [str(entry["sha256"]) for entry in files.values()]
    return {
        "path": str(_unpacked(folder, list(files))),
        "files": sorted(files),
        "bytes": sum(int(entry["bytes"]) for entry in files.values()),
        "sha256": hashes[0] if len(hashes) == 1 else hash_of_files(files),
    }


def fetch_file(
    url: str,
    folder: Path,
    sha256: str | None,
    *,
    progress: Progress | None,
    options: FetchOptions,
) -> Path:
    """Fetch one file; see `fetch`."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not name or name in (".", "..") or urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"{url!r} names no file on an http server; check the URL")
    target, part = folder / name, folder / f"{name}.part"
    if target.is_file() and (sha256 is None or sha256_of(target) == sha256.lower()):
        _log.info("%s is there already", target)
        return target
    _until_complete(url, part, name, progress, options)
    found = sha256_of(part)
    if sha256 is not None and found != sha256.lower():
        part.unlink()
        _meta(part).unlink(missing_ok=True)
        raise DataError(
            f"{name} from {url} has sha256 {found}, not {sha256}; check both, fetch again"
        )
    if name.endswith(".zip"):
        _unpack(part, folder, name)
    with part.open("rb") as handle:
        os.fsync(handle.fileno())
    part.replace(target)
    _meta(part).unlink(missing_ok=True)
    return target


def _until_complete(
    url: str, part: Path, name: str, progress: Progress | None, options: FetchOptions
) -> None:
    failures, wait = 0, options.wait_s
    longest = part.stat().st_size if part.exists() else 0
    while True:
        try:
            if _continue(url, part, name, progress, options.timeout_s):
                return
            problem: object = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 416, 429):
                raise DataError(
                    f"{url} answers {error.code} {error.reason}; check the name"
                ) from None
            problem = f"the server answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            problem = error
        size = part.stat().st_size if part.exists() else 0
        grown, longest = size > longest, max(size, longest)
        failures, wait = (0, options.wait_s) if grown else (failures + 1, min(wait * 2, 30.0))
        if failures >= options.retries:
            raise DataError(
                f"{url} could not be fetched: {problem}; "
                f"{part.name} is kept, so that the next call goes on from there"
            )
        _log.info("%s: %s; going on", name, problem)
        time.sleep(wait)


def _continue(url: str, part: Path, name: str, progress: Progress | None, timeout_s: float) -> bool:
    """Ask for what is missing and append it; True once the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    version = _version_of(part) if have else None
    headers = {"User-Agent": "tesserec", "Accept-Encoding": "identity"}
    if version:  # without a version nobody can tell that the rest belongs to the same bytes
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout_s
        )
    except urllib.error.HTTPError as error:
        if (
            error.code == 416
        ):  # nothing is missing, or the file is another one: compare, or begin anew
            total = error.headers.get("Content-Range", "").rpartition("/")[2]
            if total == str(have):
                return True
            part.unlink(missing_ok=True)
        raise
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        total = _total(response, have)
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if not resumed:
            _meta(part).write_text(json.dumps({"url": url, "version": tag}))
        with part.open("ab" if resumed else "wb") as handle:
            while block := response.read(BLOCK):
                handle.write(block)
                have += len(block)
                if progress is not None:
                    progress(name, have, total)
    return total is None or have == total


def _total(response: Any, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have + int(length) if length is not None else None


def _meta(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _version_of(part: Path) -> str | None:
    """ETag or date of the bytes so far; a weak ETag cannot promise equal bytes."""
    try:
        version = json.loads(_meta(part).read_text()).get("version")
    except (OSError, ValueError):
        return None
    return version if isinstance(version, str) and not version.startswith("W/") else None


def _unpack(archive: Path, folder: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(archive) as pack:
            for entry in pack.infolist():  # extract() itself keeps paths inside the folder
                pack.extract(entry, folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name} cannot be unpacked ({error}); fetch it again") from None


def _unpacked(folder: Path, names: Sequence[str]) -> Path:
    """Where the data lie: the top folder of a lone zip file, else `folder`."""
    if len(names) != 1 or not names[0].endswith(".zip"):
        return folder
    with zipfile.ZipFile(folder / names[0]) as pack:
        tops = {PurePosixPath(entry).parts[0] for entry in pack.namelist()}
    top = folder / min(tops, default="")
    return top if len(tops) == 1 and top.is_dir() else folder
