"""The command line: one file a command, each parses, makes one library call, prints, and exits.

    main(["evaluate", "my-run", "data/test", "--json"])   # the exit code

Exit codes: 0 done; 1 the work failed; 2 the input or the recipe is wrong; 3 stopped, resumable.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
from collections.abc import Sequence

import typer

from whispertune.cli import (
    compare,
    diagnose,
    evaluate,
    export,
    find_lr,
    init,
    inspect,
    merge,
    prepare,
    publish,
    soften,
    train,
    transcribe,
)
from whispertune.cli.quiet import quieten
from whispertune.errors import WhispertuneError

INTERRUPTED = 3
TYPER_INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Teach OpenAI's Whisper a language, an accent or a vocabulary, and prove that it learned.",
    epilog="A first run:  whispertune init my-run --data recordings/ --dev recordings-dev/ --language sv  "
    "and then  whispertune train my-run/recipe.toml",
)
app.command("init")(init.init)
app.command("inspect")(inspect.inspect)
app.command("prepare")(prepare.prepare)
app.command("find-lr")(find_lr.find_lr)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("diagnose")(diagnose.diagnose)
app.command("soften")(soften.soften)
app.command("transcribe")(transcribe.transcribe)
app.command("merge", cls=merge.Merge)(merge.merge)
app.command("export")(export.export)
app.command("publish")(publish.publish)


@app.callback()
def _options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Options of every command; `main` looks at --debug itself, wherever it stands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors become one message and an exit code, never a traceback without --debug."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    quieten()
    try:
        code = app(given, standalone_mode=False)
    except WhispertuneError as error:
        if _told_by_another(error):
            return error.exit_code
        return _fail(str(error), error.exit_code, error if debug else None)
    except BrokenPipeError:  # whoever read our output has enough
        sys.stderr.close()
        return 1
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        return _other(error, debug)
    return _fail("stopped", INTERRUPTED, None) if code == TYPER_INTERRUPTED else int(code or 0)


def _told_by_another(error: WhispertuneError) -> bool:
    """Whether this is one of several processes that train together, and the main one says the same."""
    if os.environ.get("RANK", "0") == "0":
        return False
    from whispertune.train.across.ranks import RankFailedError, RankLostError

    return not isinstance(error, RankFailedError | RankLostError)


def _other(error: Exception, debug: bool) -> int:
    """Typer's own usage errors say what is wrong; anything else is a fault of ours or of the machine."""
    show = getattr(error, "show", None)
    if show is not None:
        show()
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, MemoryError):
        return _fail("out of memory", 1, error if debug else None)
    hint = "  → --debug shows where; if it is a fault of whispertune, please report it"
    return _fail(f"{type(error).__name__}: {error}\n{hint}", 1, error if debug else None)


def _fail(message: str, code: int, error: BaseException | None) -> int:
    if error is not None:
        import traceback

        traceback.print_exception(error)
    print(f"whispertune: {message}", file=sys.stderr)
    return code


def run() -> None:
    """Entry point of the `whispertune` script; a crash in native code shows on stderr where Python was."""
    if sys.stderr is not None:
        faulthandler.enable()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # what is done is not undone by a name that is not UTF-8
    sys.exit(main())
