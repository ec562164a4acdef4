"""Parse the command line, run one command, turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tesserec import __version__
from tesserec.cli.output import Output
from tesserec.errors import TesserecError

COMMANDS = {
    "run": "run the training pipeline: from raw events to a promoted release",
    "evaluate": "score a release: Recall and NDCG, slices, baselines",
    "serve": "run Triton with the promoted release",
    "recommend": "ask the server for recommendations over gRPC",
    "event": "push one interaction, seen by the user's next recommendation",
    "retokenize": "keep semantic IDs fresh: encode new items into the running server",
    "release": "list, promote, roll back, verify and prune releases",
    "data": "make a generated shop, or fetch public data",
    "bench": "measure policies of codes on the past, block by block",
}
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong use, 3 a gate said no"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tesserec` with these arguments (default: the process's) and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(arguments[0] if arguments else "")
    options, rest = parser.parse_known_args(arguments)
    # Before Python 3.12.8 argparse takes no `a.b=1` after an option; hand those over ourselves.
    if rest and (not hasattr(options, "overrides") or any(text[:1] == "-" for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    debug: bool = getattr(options, "debug", False)
    _log(debug=debug)
    out = Output(json_only=getattr(options, "json", False))
    signal.signal(signal.SIGTERM, _terminated)
    try:
        command = importlib.import_module(f"tesserec.cli.{options.command}")
        return command.execute(options, out)
    except TesserecError as error:
        if debug:
            raise
        out.failure(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        out.failure("interrupted; the next run goes on where this one stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if debug:
            raise
        hint = "check that it is there, may be written, and that the disk has room"
        out.failure(
            f"{error}; {hint}" if error.filename or error.errno == errno.ENOSPC else f"{error}"
        )
        return 1
    except Exception as error:
        if debug:
            raise
        out.failure(f"unexpected {type(error).__name__}: {error} (--debug shows where)")
        return 1


def _log(*, debug: bool) -> None:
    """Our lines alone; with `debug` also what libraries have to say."""
    shown = logging.StreamHandler(sys.stderr)
    if not debug:
        shown.addFilter(_is_ours)
        # A library that shows its own warnings resets the filters; this is behind them.
        logging.captureWarnings(True)
    logging.basicConfig(
        level=logging.INFO if debug else logging.WARNING,
        handlers=[shown],
        format="%(asctime)s %(name)s: %(message)s",
    )


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "tesserec" or record.levelno >= logging.ERROR


def _terminated(*_: object) -> None:
    """A polite kill ends a command as Ctrl-C does: children stopped, the terminal restored."""
    raise KeyboardInterrupt


def build_parser(only: str = "") -> argparse.ArgumentParser:
    """The parser; when `only` names a command, just that command's module is imported."""
    parser = argparse.ArgumentParser(
        prog="tesserec",
        description="Generative recommendation with semantic IDs, from raw events to gRPC.",
        epilog=f"{EXIT_CODES}\nstart with: tesserec run configs/demo.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tesserec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        if only in COMMANDS and name != only:
            continue
        module = importlib.import_module(f"tesserec.cli.{name}")
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"{module.EXAMPLES}\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(command)
    return parser


def common(parser: argparse.ArgumentParser, *, workdir: bool = True, project: bool = False) -> None:
    """Add the options that commands share."""
    if workdir:
        parser.add_argument(
            "--workdir",
            type=Path,
            default=Path("work"),
            help="folder of artefacts, releases, feature store and reports (default: ./work)",
        )
    if project:
        parser.add_argument(
            "--project", help="folder with pipelines/ and feature_repo/ (default: found by itself)"
        )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--debug", action="store_true", help="show log lines and tracebacks")
