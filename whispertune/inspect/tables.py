"""Tables of the report: who speaks, which words cost tokens, the suspects, and what was left out.

speaker_table(numbers, "set-0")
dropped_tables(data.problems, numbers, "set-0")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from whispertune.data.segments import Problem
from whispertune.drawing.markup import Markup, element, join
from whispertune.drawing.tables import table
from whispertune.inspect.figures import hours
from whispertune.inspect.numbers import Numbers

if TYPE_CHECKING:
    from whispertune.inspect.suspects import Suspect

DROPPED_ROWS = 500  # are listed
SPEAKERS = 20


def speaker_table(numbers: Numbers, id_: str) -> Markup:
    """Who speaks how much, the most first."""
    if not numbers.speakers:
        return Markup()
    rows = [(group.name, f"{group.rows:,}", hours(group.hours)) for group in numbers.speakers[:SPEAKERS]]
    more = f"; the {SPEAKERS} who speak most of {len(numbers.speakers):,}" if len(numbers.speakers) > SPEAKERS else ""
    heads, classes = ("Speaker", "Rows", "Speech"), ("where", "number", "number")
    return table(f"Rows and speech by speaker{more}", heads, rows, classes=classes, id_=f"{id_}-speakers")


def word_table(numbers: Numbers, id_: str) -> Markup:
    """Words that the tokenizer cuts into the most pieces."""
    if not numbers.worst_words:
        return Markup()
    rows = [(word.text, f"{word.tokens:,}", f"{word.times:,}") for word in numbers.worst_words]
    caption = "Words that take the most tokens"
    return table(caption, ("Word", "Tokens", "Times"), rows, classes=("where", "number", "number"), id_=f"{id_}-words")


def suspect_table(suspects: Sequence[Suspect]) -> Markup:
    """The suspects with what the model wrote instead, folded up."""
    if not suspects:
        return element("p", "There are no rows to rank.")
    rows = (
        (f"{rank:,}", each.segment.id, f"{each.score:.1f}", each.segment.text, each.heard or "–", each.reason)
        for rank, each in enumerate(suspects, start=1)
    )
    told = f"The {len(suspects):,} worst"
    content = table(
        f"{told}. Score: 0 is an ordinary row; in units of the usual spread",
        ("Rank", "Where", "Score", "Text", "What the model wrote", "Reason"),
        rows,
        classes=("number", "where", "number", "prose", "prose", "prose"),
        id_="suspects-listed",
    )
    return element("details", element("summary", f"{told} as a table"), content)


def dropped_tables(problems: Sequence[Problem], numbers: Numbers, id_: str) -> Markup:
    """Rows and hours by reason, and the rows themselves, folded up."""
    if not problems:
        return join(element("h3", "Dropped rows"), element("p", "None: all rows can be used."))
    rows = [(group.name, f"{group.rows:,}", hours(group.hours) if group.hours else "–") for group in numbers.dropped]
    reasons = table(
        "Dropped rows and their speech, where it is known, by reason",
        ("Reason", "Rows", "Speech"),
        rows,
        classes=("", "number", "number"),
        id_=f"{id_}-reasons",
    )
    return join(
        element("h3", "Dropped rows"), element("div", reasons, class_="narrow"), _listed(problems, f"{id_}-dropped")
    )


def _listed(problems: Sequence[Problem], id_: str) -> Markup:
    listed = problems[:DROPPED_ROWS]
    told = f"The first {len(listed):,} of {len(problems):,}" if len(problems) > len(listed) else f"All {len(listed):,}"
    rows = ((problem.where, problem.kind, problem.detail, problem.source) for problem in listed)
    classes = ("where", "reason", "prose", "where")
    content = table(
        f"{told} dropped rows", ("Where", "Reason", "Particulars", "Source"), rows, classes=classes, id_=id_
    )
    return element("details", element("summary", f"{told} dropped rows, one by one"), content)
