"""A diagnosis as Markdown and as a page: the findings in words, then the curves.

(folder / "report.md").write_text(markdown(found), encoding="utf-8")
write_page(folder / "report.html", page_of(found))
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from whispertune.diagnose.finding import Finding
from whispertune.diagnose.history import History
from whispertune.diagnose.run import Diagnosis
from whispertune.drawing.lines import Line, lines
from whispertune.drawing.markup import Markup, element, join
from whispertune.drawing.page import FIX, check_target, page, write_page
from whispertune.errors import InputError
from whispertune.files import replace_text

MAKER: Final = "whispertune diagnose"
MOST_POINTS: Final = 400  # of a curve; more are drawn as the means of so many parts
NOTHING: Final = "Nothing stands out in what is known of this run."
HINT: Final = (
    "Most important first. Certain: the figures leave no other reading; likely: the usual one; possible: worth a look."
)


def write_reports(found: Diagnosis, folder: Path, on: date | None = None) -> tuple[Path, Path]:
    """report.md and report.html in a folder, which is made where it is not there.

    Raises:
        InputError: something else lies there under these names.
    """
    text, drawn = folder / "report.md", folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if text.exists() and f"Written by {MAKER}" not in text.read_text(encoding="utf-8", errors="replace"):
            raise InputError(f"is there already, and is no report of {MAKER}", where=str(text), fix=FIX)
        check_target(drawn, MAKER)
        replace_text(text, markdown(found, on))
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=str(folder), fix=FIX) from error
    write_page(drawn, page_of(found, on))
    return text, drawn


def told(finding: Finding) -> str:
    """A finding in a few lines of plain text."""
    seen = "; ".join(each.told for each in finding.seen)
    changes = "".join(f"\n  → {each.told}" for each in finding.change)
    return f"{finding.key} ({finding.severity}, {finding.sure}): {finding.means}.\n  seen: {seen}{changes}"


def markdown(found: Diagnosis, on: date | None = None) -> str:
    """The whole diagnosis as Markdown."""
    parts = [f"# Diagnosis of {_plain(found.name)}", _summary(found)]
    for place, finding in enumerate(found.findings, 1):
        parts += [
            f"## {place}. {finding.key}",
            f"{finding.severity} · {finding.sure}",
            f"{_plain(finding.means)}.",
            "Seen:\n\n" + "\n".join(f"- {_plain(each.told)}" for each in finding.seen),
            "To change:\n\n" + "\n".join(f"- {_code(each.key, each.value)}: {each.why}" for each in finding.change),
        ]
    parts += [f"Note: {_plain(note)}." for note in found.material.judged.notes]
    if found.missing:
        parts.append(f"Not known, and so not looked at: {', '.join(found.missing)}.")
    parts.append(f"Written by {MAKER} on {(on or date.today()).isoformat()}.")
    return "\n\n".join(parts) + "\n"


def _summary(found: Diagnosis) -> str:
    if not found.findings:
        return NOTHING
    theirs = " Keys are those of a Whispertune recipe." if found.material.history.writer == "transformers" else ""
    return f"{len(found.findings)} {'finding' if len(found.findings) == 1 else 'findings'}. {HINT}{theirs}"


def _plain(text: str) -> str:
    """Text of others stays text: no tags, no links, no emphasis."""
    for mark in "\\`*_[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _code(key: str, value: str) -> str:
    return f"`{key} = {value}`" if key else _plain(value)


def page_of(found: Diagnosis, on: date | None = None) -> str:
    """The whole diagnosis as a page."""
    notes = [f"Note: {note}." for note in found.material.judged.notes]
    if found.missing:
        notes.append(f"Not known, and so not looked at: {', '.join(found.missing)}.")
    content = join(
        element("header", element("h1", "Diagnosis of ", element("bdi", found.name))),
        element(
            "main",
            element("p", _summary(found), class_="lead"),
            *(_section(place, each) for place, each in enumerate(found.findings, 1)),
            *curves(found.material.judged),
            element("ul", *(element("li", note) for note in notes), class_="notes") if notes else None,
        ),
        element("footer", f"Written by {MAKER} on {(on or date.today()).isoformat()}."),
    )
    return page(f"Diagnosis of {found.name}", content, MAKER)


def _section(place: int, finding: Finding) -> Markup:
    rows = [
        element("tr", element("th", each.name, scope="row"), element("td", each.told.removeprefix(f"{each.name}: ")))
        for each in finding.seen
    ]
    return element(
        "section",
        element("h2", f"{place}. {finding.key.replace('-', ' ')}"),
        element("p", f"{finding.severity} · {finding.sure}", class_="muted"),
        element("p", f"{finding.means}."),
        element("div", element("table", element("tbody", *rows)), class_="scroll narrow"),
        element("h3", "To change"),
        element("ul", *(_change(each.key, each.value, each.why) for each in finding.change)),
    )


def _change(key: str, value: str, why: str) -> Markup:
    what = element("code", f"{key} = {value}") if key else element("span", value)
    return element("li", what, f": {why}")


def curves(history: History) -> list[Markup]:
    """Losses, the rate that is generated, and the learning rate, over the steps."""
    best = history.best()
    marks = (float(best.step),) if best else ()
    train = [(float(each.step), each.loss) for each in history.steps if each.loss is not None]
    rates = [(float(each.step), each.learning_rate) for each in history.steps if each.learning_rate is not None]
    dev = [(float(each.step), loss) for each, loss in history.measured("loss")]
    words = [(float(each.step), rate) for each, rate in history.measured("wer")]
    characters = [(float(each.step), rate) for each, rate in history.measured("cer")]
    drawn = [
        lines(_lines(("train", train), ("dev", dev)), "Loss, teacher-forced", "step", "loss", marks=marks),
        lines(_lines(("WER", words), ("CER", characters)), "Errors in generated text", "step", "%", marks=marks),
        lines(_lines(("learning rate", [(x, 1e6 * y) for x, y in rates])), "Learning rate", "step", "millionths"),
    ]
    there = [each for each in drawn if each]
    return [element("h2", "Curves"), *there] if there else []


def _lines(*series: tuple[str, Sequence[tuple[float, float]]]) -> list[Line]:
    found = []
    for name, points in series:
        few = _thinned(points)
        found.append(Line(name, tuple(x for x, _ in few), tuple(y for _, y in few)))
    return found


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    size = max(1, -(-len(points) // MOST_POINTS))
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]
