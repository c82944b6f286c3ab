"""The command line: parse → call → print. Everything heavy is imported when a command needs it.

One file per command; `base.py` has what they share.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from howsure.cli import choose, report, run, score
from howsure.cli.base import app
from howsure.errors import HowsureError

for _command in (run.run, report.report, score.score, choose.choose):  # in the order of --help
    app.command()(_command)

_LONGEST = 1500
"""Characters of a message."""

INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0, 1 where the work failed, 2 for bad usage."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(args=arguments, prog_name="howsure", standalone_mode=False)
        if code == INTERRUPTED:  # typer's own way of passing on Ctrl-C
            print("howsure: stopped", file=sys.stderr)
    except HowsureError as error:
        code = _complain(error, str(error), error.exit_code, "--debug" in arguments)
    except typer.TyperException as error:
        hint = "; howsure --help shows the commands and options"
        code = _complain(error, error.format_message().rstrip(".") + hint, 2, False)
    except (typer.Abort, KeyboardInterrupt):
        print("howsure: stopped", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except ModuleNotFoundError as error:
        line = f"the library {error.name!r} is not installed; pip install 'howsure[lm]'"
        code = _complain(error, line, 1, "--debug" in arguments)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        line = f"unexpected {type(error).__name__}: {first} (--debug shows where)"
        code = _complain(error, line, 1, "--debug" in arguments)
    sys.exit(code or 0)


def _terminated(*_: object) -> NoReturn:
    """Leaves by an exception, so that worker processes are ended on the way."""
    print("howsure: stopped", file=sys.stderr)
    sys.exit(128 + signal.SIGTERM)


def _complain(error: Exception, message: str, code: int, debug: bool) -> int:
    if debug:
        trace = getattr(error, "trace", "")
        print(trace or "".join(traceback.format_exception(error)), end="", file=sys.stderr)
    print(f"howsure: error: {_shown(' '.join(message.split()))}", file=sys.stderr)
    return code


def _shown(text: str) -> str:
    """Short, and without what would control the terminal: messages quote what is in files."""
    text = re.sub(r"(\S{80})\S{120,}", r"\1…", text)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


__all__ = ["app", "main"]
