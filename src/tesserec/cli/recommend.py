"""`tesserec recommend`: ask the server over gRPC and show what it recommends."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from tesserec.cli.main import common
from tesserec.cli.output import Output
from tesserec.errors import UsageError

if TYPE_CHECKING:
    from tesserec.serving.connection import TLS

EXAMPLES = """examples:
  tesserec recommend --user U42
  tesserec recommend --user U42 -k 20 --json
  tesserec recommend --user U42 --url recs:8001 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
  tesserec recommend --history I7,I9 --rules '{"exclude_seen": false}'
"""

SHOWN = 5  # recent items printed for a person


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", default="", help="user id; the server reads the history itself")
    parser.add_argument("--history", default="", help="item ids, oldest first, comma separated")
    parser.add_argument("-k", type=int, default=10, help="how many items (default: 10)")
    parser.add_argument("--rules", default="{}", help="JSON of rules (docs/rules.md)")
    parser.add_argument("--url", help="gRPC address (default: the server started in --workdir)")
    parser.add_argument("--tls-ca", help="PEM of who signed the server's certificate")
    parser.add_argument("--tls-cert", help="PEM of your certificate, if the server asks for one")
    parser.add_argument("--tls-key", help="PEM of its key")
    parser.add_argument(
        "--timeout-s", type=float, default=10.0, help="seconds to wait (default: 10)"
    )
    common(parser)


def execute(options: argparse.Namespace, out: Output) -> int:
    from tesserec.serving.client import Recommender

    if not options.user and not options.history:
        raise UsageError("name a user (--user U) or a history (--history I1,I2)")
    try:
        rules = json.loads(options.rules)
    except json.JSONDecodeError as error:
        raise UsageError(f"--rules {options.rules!r} is not JSON: {error}") from None
    if not isinstance(rules, dict):
        raise UsageError(f'--rules {options.rules!r} is no JSON object; write {{"rule": value}}')
    history = [i.strip() for i in options.history.split(",") if i.strip()]
    url, tls = _server(options)
    with Recommender(url, timeout_s=options.timeout_s, tls=tls) as client:
        answer = client.recommend(
            user_id=options.user, history=history, k=options.k, rules={**rules, "explain": True}
        )
    told = {item["item_id"]: item for item in answer.explain["items"]}
    items = [
        {"item_id": i, "score": score, "title": told[i]["title"], "sid": told[i]["sid"]}
        for i, score in zip(answer.item_ids, answer.scores, strict=True)
    ]
    result: dict[str, Any] = {
        "user_id": options.user,
        "release_id": answer.release_id,
        "source": answer.source,
        "items": items,
        "recent": answer.history,
        "reason": answer.reason,
    }
    out.result(result | ({"explain": answer.explain} if rules.get("explain") else {}))
    titles = answer.explain["history_titles"][-SHOWN:]
    recent = [f"{i}  {t or ''}" for i, t in zip(answer.history[-SHOWN:], titles, strict=True)]
    who = f"user {options.user}" if options.user else "the given history"
    kind = "popular items" if answer.source.startswith("popular") else "model"
    out.line(f"{who}, answered by the {kind} of release {answer.release_id}")
    out.line("recent: " + ("; ".join(recent) or "nothing known"))
    rows = [
        [n, i["title"] or "", i["item_id"], f"{i['score']:.3f}"] for n, i in enumerate(items, 1)
    ]
    out.table("", ["", "title", "item", "score"], rows, left=3)
    if rules.get("explain"):
        for item in items:
            out.line(f"{item['item_id']}  {_because(told[item['item_id']]['because'])}")
    if answer.reason:
        out.note(f"reason: {answer.reason}")
    return 0


def _because(likest: list[dict[str, Any]] | None) -> str:
    """Which items of the history share most digits with an item, and which digits."""
    if likest is None:
        return "this model has no codes to compare"
    shares = [
        f"{one['item_id']} (digits {', '.join(map(str, one['digits']))})"
        for one in likest
        if one["shared"]
    ]
    return "shares digits with " + "; ".join(shares) if shares else "shares no digit"


def _server(options: argparse.Namespace) -> tuple[str, TLS | None]:
    """Where to ask and with which files: those named, else what the running server tells of it."""
    from tesserec.serving.connection import TLS, find_server

    url, told = options.url, None
    if not url:
        url, told = find_server(options.workdir.resolve())
    if not (told or options.tls_ca or options.tls_cert or options.tls_key):
        return url, None
    ca = options.tls_ca or (told.ca if told else None)
    return url, TLS(ca=ca, cert=options.tls_cert, key=options.tls_key)
