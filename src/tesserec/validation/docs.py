"""Make a Data Docs site small, self-contained and the same for the same data.

As written by Great Expectations a site has 4 MB of tutorial pictures, loads its styles and its
table of contents from six other hosts, and holds random ids and the time of day. A gate's site is
part of an artefact and must be readable without a network, so all of that is replaced here.
"""

from __future__ import annotations

import html
import itertools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

STYLE = """
:root{color-scheme:light dark}h4,h5,h6{font-size:1rem;margin:1rem 0 .3rem}.lead{margin:0 0 1rem}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}
td,th{border-top:1px solid #8886;padding:.35rem .6rem;text-align:left;vertical-align:top}
.alert,.card,.ge-section{margin:.5rem 0}.badge{
border:1px solid #8886;border-radius:4px;padding:0 .3em}
.text-success,.ok{color:#188038}.text-danger,.no{color:#c5221f}
.fa-check-circle::before{content:"\\2713"}.fa-times::before{content:"\\2717"}
.fa-exclamation-triangle::before{content:"!"}
ol.breadcrumb,ol.ge-breadcrumbs{list-style:none;padding:0}pre,.show-scrollbars{overflow:auto;max-width:100%}
.cooltip .top,.ge-navigation-sidebar-container{display:none}ul{padding-left:1.2rem}
"""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STAMP = re.compile(r"20\d{6}T\d{6}\.\d{6}Z")
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
_NOISE = re.compile(
    r"<footer>.*?</footer>|<nav class=\"navbar.*?</nav>\s*</nav>"
    r"|<strong>Actions</strong>.*?<strong>Table of Contents</strong>|onclick=\"[^\"]*\""
    r"|url\('https?://[^)]*\)[^;}]*;?",
    re.DOTALL,
)
_REMOTE = re.compile(r"<(?:link|img)\b[^>]*?(?:href|src)=\"https?://[^>]*?/?>", re.DOTALL)


def tidy_site(site: Path, gate: str, passed: Mapping[str, bool]) -> dict[str, str]:
    """Clean the pages below `site`, write its index; returns table -> page, relative to `site`."""
    shutil.rmtree(site / "static", ignore_errors=True)
    site.mkdir(parents=True, exist_ok=True)
    pages: dict[str, str] = {}
    for page in sorted(site.rglob("*.html")):
        page.write_text(_clean(page.read_text()))
    for table in passed:
        found = sorted((site / "validations" / table).rglob("*.html"))
        if found:
            pages[table] = found[-1].relative_to(site).as_posix()
    (site / "index.html").write_text(_index(gate, passed, pages))
    return pages


def _clean(text: str) -> str:
    text = _NOISE.sub("", _REMOTE.sub("", _SCRIPT.sub("", text)))
    text = re.sub(r"<link\b[^>]*favicon[^>]*>", "", text)
    names: dict[str, str] = {}
    numbers = itertools.count(1)
    text = _UUID.sub(lambda m: names.setdefault(m.group(), f"id{next(numbers)}"), text)
    text = _STAMP.sub("see manifest.json", text)
    text = re.sub(r"\s*/\s*2000-01-01T00:00:00Z", "", text)
    text = text.replace("2000-01-01T00:00:00Z", "see manifest.json")
    return text.replace("</head>", f"<style>{STYLE}</style></head>", 1)


def _index(gate: str, passed: Mapping[str, bool], pages: Mapping[str, str]) -> str:
    rows = []
    for table, ok in passed.items():
        mark = '<span class="ok">all met</span>' if ok else '<span class="no">not all met</span>'
        name = html.escape(table)
        if table in pages:
            name = f'<a href="{html.escape(pages[table])}">{name}</a>'
        suite = f'<a href="expectations/{html.escape(table)}.html">expectations</a>'
        rows.append(f"<tr><td>{name}</td><td>{mark}</td><td>{suite}</td></tr>")
    title = html.escape(gate)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}: Data Docs</title><style>{STYLE}</style></head><body>"
        f"<h1>{title}</h1><table><thead><tr><th>Table</th><th>Result</th><th>Suite</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></body></html>\n"
    )
