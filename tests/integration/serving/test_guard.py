"""TLS, locked protocols, limits and clients of the real server."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tesserec.config import ServeSettings, TLSSettings
from tesserec.errors import RequestError, ServingError
from tesserec.release import promote
from tesserec.serving.client import AsyncRecommender, Recommender
from tesserec.serving.connection import TLS, find_server
from tesserec.serving.triton import TritonProcess, start
from tests.command import tesserec
from tests.fakes.release import tiny_release

pytestmark = pytest.mark.triton


def authority(folder: Path, name: str) -> Any:
    """A CA of its own, `<name>.pem`: a function that signs certificates into `folder`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: str, key: Any, issuer: str, by: Any, ca: bool) -> Any:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(by, hashes.SHA256())
        )

    def write(stem: str, signed: Any, key: Any) -> None:
        (folder / f"{stem}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        kind = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        (folder / f"{stem}.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, kind, plain)
        )

    own = ec.generate_private_key(ec.SECP256R1())
    write(name, certificate(name, own, name, own, True), own)

    def sign(stem: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        write(stem, certificate(stem, key, name, own, False), key)

    return sign


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "pem"
    folder.mkdir()
    sign, sign_other = authority(folder, "ca"), authority(folder, "other")
    sign("server")
    sign("client")
    sign_other("stranger")
    return folder


def tls(files: Path, ca: str = "ca", me: str | None = None) -> TLS:
    own = {"cert": str(files / f"{me}.pem"), "key": str(files / f"{me}.key")} if me else {}
    return TLS(ca=str(files / f"{ca}.pem"), **own)


def test_mutual_tls(tmp_path: Path, files: Path, project: Path, light_models: Path) -> None:
    workdir = tmp_path / "work"
    promote(workdir, tiny_release(workdir))
    settings = ServeSettings(
        tls=TLSSettings(
            cert=str(files / "server.pem"),
            key=str(files / "server.key"),
            client_ca=str(files / "ca.pem"),
        )
    )
    with start(workdir, project, settings=settings, models=light_models) as server:

        def ask(with_: TLS | None) -> str:
            with Recommender(server.grpc, timeout_s=10, retries=0, tls=with_) as client:
                return client.recommend(history=["I001"]).source

        assert ask(tls(files, me="client")) == "model"
        for refused, hint in (
            (None, "name ca, cert and key"),  # plain text
            (tls(files), "name ca, cert and key"),  # no certificate
            (tls(files, me="stranger"), "name ca, cert and key"),  # another authority's
            (tls(files, ca="other", me="client"), "name the right one"),  # the client's mistrust
        ):
            with pytest.raises(ServingError, match=f"did not answer: .*{hint}"):
                ask(refused)

        async def later() -> str:
            async with AsyncRecommender(
                server.grpc, timeout_s=10, tls=tls(files, me="client")
            ) as client:
                return (await client.recommend(history=["I001"])).source

        assert asyncio.run(later()) == "model"
        text = (workdir / "serving" / "server.json").read_text()
        assert "PRIVATE" not in text and "server.key" not in text
        url, told = find_server(workdir)
        assert (url, told) == (server.grpc, TLS(ca=str(files / "server.pem")))
        own = ["--tls-cert", str(files / "client.pem"), "--tls-key", str(files / "client.key")]
        words = ["recommend", "--workdir", str(workdir), "--history", "I001", "--json"]
        assert tesserec(*words).returncode == 1
        done = tesserec(*words, *own)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["source"] == "model"


@pytest.fixture(scope="module")
def raw(server: TritonProcess) -> Iterator[Any]:
    from tritonclient.grpc import InferenceServerClient

    with InferenceServerClient(server.grpc) as opened:
        yield opened


def test_nobody_may_change_the_server_or_register_memory(
    server: TritonProcess, client: Recommender, raw: Any
) -> None:
    from tritonclient.utils import InferenceServerException

    calls = [
        lambda: raw.unload_model("recommend"),
        lambda: raw.load_model("recommend"),
        lambda: raw.register_system_shared_memory("r", "/none", 64),
        raw.get_system_shared_memory_status,
        raw.get_trace_settings,
        lambda: raw.update_log_settings({"log_verbose_level": 1}),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match=r"(?i)restrict|protocol"):
            call()
    for path in (
        "repository/models/recommend/unload",
        "systemsharedmemory/region/r/register",
        "logging",
        "models/recommend/infer",
    ):
        deep = b"[" * 200_000  # would cost the parser of JSON its stack
        request = urllib.request.Request(f"http://{server.info['http']}/v2/{path}", deep)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        assert caught.value.code in (401, 403), path
    assert client.recommend(user_id="U5").source == "model"
    server.check()


def test_the_limits_are_told(server: TritonProcess) -> None:
    limits = server.info["limits"]
    assert limits["queue"] == 128 and limits["batch"] == 64 and limits["history"] == 1000


def test_threads_share_a_client_and_asyncio_has_its_own(
    server: TritonProcess, client: Recommender
) -> None:
    users = [f"U{n % 30}" for n in range(120)]
    alone = {user: client.recommend(user_id=user).item_ids for user in set(users)}
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda user: client.recommend(user_id=user), users))
    assert [a.item_ids for a in found] == [alone[user] for user in users]

    async def at_once() -> list[list[str]]:
        async with AsyncRecommender(server.grpc, timeout_s=20) as opened:
            assert await opened.ready()
            with pytest.raises(RequestError, match="k is 0"):
                await opened.recommend(k=0)
            answers = await asyncio.gather(*(opened.recommend(user_id=user) for user in users))
            return [answer.item_ids for answer in answers]

    assert asyncio.run(at_once()) == [alone[user] for user in users]
