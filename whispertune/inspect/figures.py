"""The figures of a set as people read them: what is counted, and the value with its unit.

    for figure in figures(numbers):
        print(figure.label, figure.value)

The terminal and the report show the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whispertune.drawing.charts import Quantiles
from whispertune.inspect.numbers import Group, Numbers
from whispertune.languages import UNSPACED_LANGUAGES

GROUPS_NAMED = 3
SPREAD = "median (90 % of rows)"  # without the 5 % at either end


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table."""

    label: str
    value: str


def figures(numbers: Numbers) -> tuple[Figure, ...]:
    """All figures of a set, in the order they are read."""
    sections = (_amounts, _lengths, _tokens, _sound, _windows, _dropped)
    return tuple(Figure(label, value) for section in sections for label, value in section(numbers))


def spread(values: Quantiles | None, digits: int = 1) -> str:
    """`3.1 (1.6 to 5.2)`."""
    if values is None:
        return "–"
    return f"{values.median:.{digits}f} ({values.p5:.{digits}f} to {values.p95:.{digits}f})"


def hours(value: float) -> str:
    """Hours, or minutes where there are few."""
    return f"{value:,.1f} h" if value >= 10 else f"{value:.2f} h" if value >= 1 else f"{60 * value:.1f} min"


def share(value: float) -> str:
    """A share in per cent; `under 0.1 %` for one that rounds to nothing and is something."""
    return "under 0.1 %" if 0 < value < 0.0005 else f"{100 * value:.1f} %"


def rate_name(rate_hz: int) -> str:
    """`44.1 kHz`."""
    return f"{rate_hz / 1000:g} kHz"


def kept_share(numbers: Numbers) -> float:
    """Of all rows, those that can be used."""
    dropped = sum(group.rows for group in numbers.dropped)
    return numbers.rows / (numbers.rows + dropped) if numbers.rows else 0.0


Lines = Iterator[tuple[str, str]]


def _amounts(numbers: Numbers) -> Lines:
    yield "rows that can be used", f"{numbers.rows:,}"
    yield "speech in them", hours(numbers.hours)
    yield "recordings", f"{numbers.recordings:,}"
    yield "speakers", _speakers(numbers)
    yield "languages", _named(numbers.languages)
    if [group.name for group in numbers.tasks] not in ([], ["transcribe"]):
        yield "tasks", _named(numbers.tasks)


def _lengths(numbers: Numbers) -> Lines:
    yield f"seconds a row: {SPREAD}", spread(numbers.duration_s)
    if numbers.duration_s:
        yield (
            "seconds a row: shortest, longest",
            f"{numbers.duration_s.least:.2f}, {numbers.duration_s.most:.2f}",
        )
    yield f"characters a second: {SPREAD}", spread(numbers.characters_a_second)
    yield "longer than 30 s, of all rows (dropped)", share(numbers.over_30_s_share)


def _tokens(numbers: Numbers) -> Lines:
    if numbers.tokens is None or numbers.over_max_tokens_share is None:
        return
    spoken, tasks = ({group.name for group in groups} for groups in (numbers.languages, numbers.tasks))
    unit = "character" if spoken <= UNSPACED_LANGUAGES and "translate" not in tasks else "word"
    yield f"tokens a row: {SPREAD}", spread(numbers.tokens, 0)
    yield f"tokens a {unit}", "–" if numbers.tokens_a_word is None else f"{numbers.tokens_a_word:.2f}"
    yield f"over {numbers.max_tokens} tokens with times, of all rows", share(numbers.over_max_tokens_share)


def _sound(numbers: Numbers) -> Lines:
    rates = (f"{rate_name(rate)} {100 * part:.0f} %" for rate, part in list(numbers.sample_rates_hz.items()))
    yield "sample rates of the recordings", ", ".join(list(rates)[:GROUPS_NAMED]) or "–"
    if numbers.clipped_rows is not None:
        yield f"level, dBFS: {SPREAD}", spread(numbers.level_db)
        yield f"SNR estimate, dB: {SPREAD}", spread(numbers.snr_db)
        yield "rows with any clipped samples", f"{numbers.clipped_rows:,}"


def _windows(numbers: Numbers) -> Lines:
    about = "about " if numbers.windows_counted_share < 1 else ""
    yield "windows of 30 s they pack into", f"{about}{numbers.windows:,}"
    yield "how full these are", share(numbers.windows_full_share)


def _dropped(numbers: Numbers) -> Lines:
    rows = sum(group.rows for group in numbers.dropped)
    of_all = f" ({share(1 - kept_share(numbers))} of all)" if rows else ""
    yield "rows dropped", f"{rows:,}{of_all}"
    for group in numbers.dropped:
        yield f"  {group.name}", f"{group.rows:,}{f', {hours(group.hours)}' if group.hours else ''}"


def _speakers(numbers: Numbers) -> str:
    if not numbers.speakers:
        return "not named"
    unnamed = f" (and {numbers.rows_without_speaker:,} rows that name none)" if numbers.rows_without_speaker else ""
    return f"{len(numbers.speakers):,}{unnamed}"


def _named(groups: Sequence[Group]) -> str:
    """`sv 98 %, nb 2 %` of the hours."""
    total = sum(group.hours for group in groups)
    if len(groups) == 1 or not total:
        return ", ".join(group.name for group in groups[:GROUPS_NAMED]) or "–"
    named = ", ".join(f"{group.name} {share(group.hours / total)}" for group in groups[:GROUPS_NAMED])
    return f"{named}, and {len(groups) - GROUPS_NAMED} more" if len(groups) > GROUPS_NAMED else named
