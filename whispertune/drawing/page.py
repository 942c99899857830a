"""A page: one HTML file that loads nothing and runs nothing, whole or not there.

    check_target(Path("report.html"), "whispertune inspect")      # InputError where something else lies there
    write_page(Path("report.html"), page("What is in talks/", body, "whispertune inspect"))

What it shows may come from anyone: it is escaped by `markup`, there is no script, and the page's own policy allows
none.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from pathlib import Path

from whispertune.drawing.markup import Markup, element, join
from whispertune.errors import InputError
from whispertune.files import check_writable, partial_of

MARK_BYTES = 4096  # of a file, in which its maker stands
STYLE = Path(__file__).parent / "assets" / "report.css"
FIX = "choose another --out"  # where that is the flag that named the file


def check_target(path: Path, maker: str, fix: str = FIX) -> None:
    """Raise InputError where a page cannot be written, or would replace what is no page of the same maker."""
    if path.is_dir():
        raise InputError("is a folder", where=str(path), fix=f"give the name of a file, e.g. {path / 'report.html'}")
    if not path.absolute().parent.is_dir():
        raise InputError("there is no such folder", where=str(path.parent), fix=f"make it, or {fix}")
    check_writable(path, fix)
    if path.exists() and not _is_of(path, maker):
        raise InputError(f"is there already, and is no report of {maker}", where=str(path), fix=fix)


def _is_of(path: Path, maker: str) -> bool:
    """Whether a file says that it is of this maker; what cannot be read says nothing."""
    try:
        with path.open("rb") as file:
            return f'content="{maker}"'.encode() in file.read(MARK_BYTES)
    except OSError:
        return False


def write_page(path: Path, page: str, fix: str = FIX) -> None:
    """Write the page beside its place first, so that a report is whole or not there."""
    partial = partial_of(path)
    try:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")  # odd file names
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=str(path), fix=fix) from error
    finally:
        with suppress(OSError):  # it is not there, or its name is too long to be
            partial.unlink()


def page(title: str, body: Markup, maker: str) -> str:
    """The whole document; `maker` is what `check_target` looks for."""
    style = STYLE.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="generator", content=maker),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(style)),
    )
    return join(Markup("<!doctype html>\n"), element("html", head, element("body", body), lang="en"))
