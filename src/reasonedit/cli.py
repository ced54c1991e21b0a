"""The command line. Each command is imported only when it is called, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import io
import itertools
import os
import sys
from collections.abc import Sequence

from reasonedit.errors import InputError, ReasonEditError, check_runs, is_disk_full
from reasonedit.quiet import quieten
from reasonedit.safe_text import to_safe_text
from reasonedit.util.signals import Interrupted, watch_signals

COMMANDS: dict[str, str] = {
    "demo": "watch the embedded VLM be wrong, be corrected, and answer better",
    "run": "run an edit stream described by a YAML file",
    "experiment": "compare editors, or settings of one, on several seeds",
    "report": "make a page of results",
    "train-mend": "train the network that the baseline MEND needs",
    "train-serac": "train the networks that the baseline SERAC needs",
    "select": "choose layer and weight of the embedding for a VLM and its data",
    "calibrate": "learn from unlabelled pictures like yours how alike unrelated pictures are",
    "ask": "ask a question about one picture",
    "edit": "correct one answer and keep it in a codebook",
    "codebook": "list, show, check, undo and exchange the edits of a codebook; verify, repair, back up and share it",
    "app": "a page in the browser on which a person asks a VLM and corrects it",
    "serve": "serve a VLM with a codebook behind OpenAI's protocol, and correct what is served",
    "build-probes": "make the probes of a data set: paraphrases, new pictures, new questions",
    "data": "check a data set before it is used",
    "world": "the embedded world: show it, test the VLM's abilities, fetch its language model",
}

_OF_RUNS = ("demo", "run", "experiment", "report", "train-mend", "train-serac", "select", "build-probes")
"""Commands that need the extra 'runs'."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 1 where the input cannot be used or the disk is full, 2 for a wrong call; 130 where Ctrl-C and 143 where
        SIGTERM ended it.
    """
    _replace_unprintable()
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="reasonedit",
        description="Correct a frozen vision-language model with human reasoning.",
        epilog="'reasonedit COMMAND --help' says more about a command.",
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    name = parser.parse_known_args(arguments[:1] or ["--help"])[0].command
    quieten()
    interrupted: list[int] = []
    if argv is None:
        atexit.register(_exit_interrupted, interrupted)  # runs last: functions that are registered later run before
    with watch_signals() as watch:
        try:
            _refuse_empty(arguments)
            if name in _OF_RUNS and not _asks_for_help(arguments):
                check_runs()
            return int(importlib.import_module(f"reasonedit.commands.{name.replace('-', '_')}").main(arguments[1:]))
        except ReasonEditError as error:
            return _fail(str(error))
        except (KeyboardInterrupt, Interrupted) as stop:
            message = "" if isinstance(stop, Interrupted) else str(stop)
            if watch is None or watch.speaks:
                _fail(message or "Interrupted.")
            interrupted.append(watch.exit_code if watch is not None and watch.signal_number else 130)
            return interrupted[0]
        except OSError as error:
            if is_disk_full(error):
                return _fail(f"No space is left on the disk ({error.filename or 'writing'}): free some and run again.")
            if error.filename is None:
                raise
            return _fail(f"'{os.fsdecode(error.filename)}' cannot be used: {error.strerror}.")


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse options without a value, as ``--model "$MODEL"`` is where the variable is not set: none means the default.

    An author may be nobody, and what configs take (options with a dot) is theirs to judge.

    Raises:
        InputError: There is one.
    """
    given = [text.partition("=")[::2] for text in arguments if text.startswith("--") and "=" in text]
    given += [(option, value) for option, value in itertools.pairwise(arguments) if option.startswith("--")]
    for option, value in given:
        if not value and "." not in option and option not in ("--", "--author"):
            raise InputError(
                f"What follows {option} is empty (a variable that is not set?): give a value; what has a default "
                "may be left out."
            )


def _asks_for_help(arguments: Sequence[str]) -> bool:
    """Help is there without the packages that the command takes."""
    return "-h" in arguments or "--help" in arguments


class _Version(argparse.Action):
    """Shows the version; it is looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import reasonedit

        print(f"reasonedit {reasonedit.__version__}")
        parser.exit()


def _exit_interrupted(interrupted: Sequence[int]) -> None:
    """End an interrupted process at once: Python takes seconds to put away all that was imported."""
    for code in interrupted:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _fail(message: str) -> int:
    print(f"reasonedit: {to_safe_text(message)}", file=sys.stderr)
    return 1


def _replace_unprintable() -> None:
    """Print a question mark for a character that the terminal's encoding, or any, does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
