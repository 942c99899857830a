"""The report: one HTML file with all numbers, charts, samples to listen to and dropped rows. It loads nothing.

check_target(Path("report.html"))                 # InputError where something else than a report lies there
write_page(Path("report.html"), render("recordings/", sets, notes, tokenizer="openai/whisper-small"))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from whispertune.drawing.markup import Markup, element, join
from whispertune.drawing.page import page
from whispertune.drawing.tables import table
from whispertune.inspect.cards import Card, cards
from whispertune.inspect.figures import figures, hours, kept_share, share
from whispertune.inspect.numbers import Numbers
from whispertune.inspect.plots import plots
from whispertune.inspect.survey import Survey
from whispertune.inspect.tables import dropped_tables, speaker_table, suspect_table, word_table

if TYPE_CHECKING:
    from whispertune.inspect.suspects import Suspect

MAKER = "whispertune inspect"  # that the page names: what may be overwritten
_INDENT = "\u2003"  # an em space; others fall together
_MINUS = re.compile(r"(?<!\w)-(?=\d)")  # typed as a hyphen


@dataclass(frozen=True, slots=True)
class SuspectSection:
    """Rows whose text and audio agree badly, the worst first."""

    cards: tuple[Card, ...]  # of the first of them
    listed: tuple[Suspect, ...]
    ranked: int


@dataclass(frozen=True, eq=False, slots=True)
class Section:
    """One set as the report shows it."""

    survey: Survey
    numbers: Numbers
    sources: tuple[str, ...]
    random: tuple[Card, ...]
    extreme: tuple[Card, ...]


def render(
    source: str,
    sections: Sequence[Section],
    notes: Sequence[str],
    *,
    tokenizer: str | None,
    suspects: SuspectSection | None = None,
    on: date | None = None,
) -> str:
    """The page."""
    several = len(sections) > 1
    tokens = f" Tokens are those of {tokenizer}." if tokenizer else ""
    lead = (
        "What Whispertune found in this data: figures of the rows that can be used, samples to listen to, "
        f"and the rows that were left out, with the reason.{tokens}"
    )
    names = [(f"set-{number}", section.survey.name) for number, section in enumerate(sections)]
    links = [*names, *([("suspects", "Suspicious transcripts")] if suspects else [])]
    body = join(
        element(
            "header",
            element("h1", "What is in ", element("bdi", _breakable(source))),
            element("p", lead, class_="lead"),
        ),
        _navigation(links) if len(links) > 1 else None,
        element(
            "main",
            _notes(notes),
            *(_section(id_, section, several) for (id_, _), section in zip(names, sections, strict=True)),
            _suspects(suspects) if suspects else None,
        ),
        element("footer", _footer(on or date.today())),
    )
    return page(f"What is in {source}", body, MAKER)


def _breakable(path: str) -> Markup:
    """A path that may go on in the next line behind each slash."""
    return Markup(join(path).replace("/", "/<wbr>"))


def _navigation(links: Sequence[tuple[str, str]]) -> Markup:
    items = (element("li", element("a", name, href=f"#{id_}")) for id_, name in links)
    return element("nav", element("ul", *items), aria_label="Parts of this report")


def _notes(notes: Sequence[str]) -> Markup:
    return element("ul", *(element("li", note, dir="auto") for note in notes), class_="notes") if notes else Markup()


def _section(id_: str, section: Section, several: bool) -> Markup:
    numbers, survey = section.numbers, section.survey
    rows = [(figure.label.replace("  ", _INDENT), _MINUS.sub("−", figure.value)) for figure in figures(numbers)]
    return element(
        "section",
        element("h2", survey.name if several else "The rows that can be used", id=f"{id_}-title"),
        element("p", "From ", element("bdi", ", ".join(section.sources)), class_="muted") if several else None,
        _tiles(numbers),
        _notes(numbers.notes),
        plots(survey),
        element("h3", "All figures"),
        element(
            "div",
            table("What was counted, with its unit", ("Figure", "Value"), rows, classes=("", "number"), id_=f"{id_}-f"),
            element("div", speaker_table(numbers, id_), word_table(numbers, id_), class_="stack"),
            class_="pairs",
        ),
        _samples("Random samples", "Drawn from all rows that can be used.", section.random),
        _samples(
            "Extreme samples", "Where trouble often shows: a text beside the wrong audio, noise.", section.extreme
        ),
        dropped_tables(survey.data.problems, numbers, id_),
        id=id_,
        aria_labelledby=f"{id_}-title",
    )


def _tiles(numbers: Numbers) -> Markup:
    tiles = [
        (f"{numbers.rows:,}", "rows can be used"),
        (hours(numbers.hours), "of speech"),
        (
            f"{len(numbers.speakers):,}" if numbers.speakers else "–",
            "speakers" if numbers.speakers else "speakers named",
        ),
        (f"{numbers.duration_s.median:.1f} s" if numbers.duration_s else "–", "a row, median"),
        (f"{numbers.windows:,}", f"windows of 30 s, {100 * numbers.windows_full_share:.0f} % full"),
        (share(1 - kept_share(numbers)), "of all rows dropped"),
    ]
    return element(
        "dl", *(element("div", element("dt", told), element("dd", value)) for value, told in tiles), class_="tiles"
    )


def _samples(title: str, told: str, shown: Sequence[Card]) -> Markup:
    if not shown:
        return Markup()
    return join(element("h3", title), element("p", told, class_="muted"), cards(shown))


def _suspects(found: SuspectSection) -> Markup:
    told = (
        f"Of {found.ranked:,} rows those whose text and audio agree worst, the worst first. "
        "Listen before you drop any: rare words and unusual speakers stand here too."
    )
    return element(
        "section",
        element("h2", "Suspicious transcripts", id="suspects-title"),
        element("p", told, class_="muted"),
        cards(found.cards),
        suspect_table(found.listed),
        id="suspects",
        aria_labelledby="suspects-title",
    )


def _footer(on: date) -> str:
    return (
        f"Written by whispertune inspect on {on.isoformat()}. Box plots: the box holds half of the rows, the line in "
        "it is the median, the whiskers hold 90 % of them, the dots are the least and the most. Levels are in dB of "
        "full scale. Signal to noise is estimated from the energies of 20 ms frames, and says 0 to 4 dB too much."
    )
