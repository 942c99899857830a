"""Several models on the same rows: which is better than the first, and is it luck.

rows = comparison({"openai/whisper-small": small, "run-a": a, "run-b": b})
rows[1].against_first.verdict     # "better", "worse" or "no difference shown"
page_of(rows, "data/test")        # a table and a plot, HTML
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from whispertune.drawing.intervals import Interval, intervals
from whispertune.drawing.markup import element, join
from whispertune.drawing.page import page
from whispertune.drawing.tables import table
from whispertune.errors import DataError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.tokens import RowLoss, mean_loss
from whispertune.model.load import RUN_MARK
from whispertune.score.comparison import Comparison, compare
from whispertune.score.wer import score
from whispertune.score.written import text_language

MAKER = "whispertune compare"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run wrote down of itself; None is what it did not."""

    seconds_training: float | None = None
    cost: float | None = None
    currency: str | None = None
    energy_kwh: float | None = None
    co2_kg: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One model among others, on the rows that all of them have."""

    name: str
    evaluation: Evaluation
    against_first: Comparison | None  # None for the first
    recorded: Recorded | None = None  # None for what is no run
    loss: float | None = None  # teacher-forced, mean nats a token; None where it was not measured

    @property
    def real_time_factor(self) -> float:
        """Seconds of decoding a second of speech."""
        return self.evaluation.seconds / max(self.evaluation.audio_seconds, 1e-9)

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `compare --json` promises."""
        return {
            "model": self.name,
            **self.evaluation.as_json(),
            "real_time_factor": round(self.real_time_factor, 4),
            "loss": self.loss,
            **(_told_json(self.against_first) if self.against_first else {"verdict": None}),
            **({name: getattr(self.recorded, name) for name in Recorded.__slots__} if self.recorded else {}),
        }


def _told_json(found: Comparison) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "difference": found.difference,
        "difference_interval": list(found.interval),
        "probability_of_improvement": found.probability_of_improvement,
        "p_value": found.test.p_value,
    }


def comparison(
    evaluations: Mapping[str, Evaluation], losses: Mapping[str, Mapping[str, RowLoss]] | None = None
) -> tuple[Compared, ...]:
    """Each against the first, by words, or by characters where most rows are written without spaces.

    Rows that a model could not decode are left out for all of them. `losses` are the teacher-forced ones of the models
    that have some, by row, see tokens.py; they are shown and judge nothing.

    Raises:
        DataError: fewer than two models, or no row that all of them decoded.
    """
    if len(evaluations) < 2:
        raise DataError("one model alone cannot be compared", fix="name two or more that differ")
    shared = set.intersection(*({each.id for each in found.utterances} for found in evaluations.values()))
    if not shared:
        raise DataError("there is no row that all of the models decoded", fix="compare them on the same data")
    (first, base), *others = [(name, _on(found, shared)) for name, found in evaluations.items()]
    by_characters = base.leading == "cer"
    speakers = [segment.speaker for segment in base.segments]
    known = _shared_losses(losses or {}, shared)
    rows = [Compared(first, base, None, recorded(Path(first)), known.get(first))]
    for name, found in others:
        against = compare(base.utterances, found.utterances, speakers=speakers, characters=by_characters)
        rows.append(Compared(name, found, against, recorded(Path(name)), known.get(name)))
    return tuple(rows)


def _shared_losses(losses: Mapping[str, Mapping[str, RowLoss]], ids: set[str]) -> dict[str, float | None]:
    """Of the rows that are compared, as far as all models that have losses have one of them."""
    both = ids.intersection(*(rows.keys() for rows in losses.values()))
    return {name: mean_loss(rows[each] for each in both) for name, rows in losses.items()}


def _on(found: Evaluation, ids: set[str]) -> Evaluation:
    """An evaluation of some of its rows."""
    if len(ids) == len(found.utterances):
        return found
    kept = [(u, s) for u, s in zip(found.utterances, found.segments, strict=True) if u.id in ids]
    utterances, segments = [u for u, _ in kept], tuple(s for _, s in kept)
    scores, scored = score(
        [u.id for u in utterances],
        [u.reference for u in utterances],
        [u.hypothesis for u in utterances],
        [text_language(s) for s in segments],
        speakers=[s.speaker for s in segments],
        normalizer=found.normalizer,
    )
    seconds = sum(segment.duration_s for segment in segments)
    share = seconds / max(found.audio_seconds, 1e-9)
    return replace(
        found,
        scores=scores,
        utterances=tuple(scored),
        segments=segments,
        audio_seconds=seconds,
        seconds=found.seconds * share,
    )


def recorded(run: Path) -> Recorded | None:
    """What a run's result.json says; None where the name is that of no run or it has not ended."""
    try:
        if not (run / RUN_MARK).is_file():
            return None
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        return Recorded(**{name: result.get(name) for name in Recorded.__slots__})
    except (OSError, ValueError):
        return None


# --- what people see -------------------------------------------------------------------------------------------


def heads(rows: Sequence[Compared]) -> list[str]:
    """The titles of `cells`: losses only where one was measured, what runs recorded only where one did."""
    titles = ["model", "WER, %", "95 %", "CER, %", "WER norm., %", "time/speech"]
    return titles + [title for title, value in _extras(rows[0]) if any(dict(_extras(row))[title] for row in rows)]


def cells(row: Compared, titles: Sequence[str]) -> list[str]:
    """A row of the table."""
    scores = row.evaluation.scores
    found = [
        row.name,
        f"{scores.wer:.1f}",
        f"{scores.wer_interval[0]:.1f} to {scores.wer_interval[1]:.1f}",
        f"{scores.cer:.1f}",
        f"{scores.wer_normalized:.1f}",
        f"{row.real_time_factor:.3f}",
    ]
    return found + [value or "–" for title, value in _extras(row) if title in titles]


def verdicts(rows: Sequence[Compared]) -> list[str]:
    """Of each but the first a sentence."""
    found = []
    for row in rows[1:]:
        against = row.against_first
        assert against is not None
        low, high = against.interval
        first = rows[0].name
        shown = f"{against.verdict} than" if against.verdict != "no difference shown" else "no difference shown to"
        found.append(
            f"{row.name}: {shown} {first}: {against.difference:+.1f} points (95 %: {low:+.1f} to {high:+.1f}), "
            f"p {_p(against.test.p_value)}, better with a probability of {against.probability_of_improvement:.2f}"
        )
    return found


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "under 0.001"


def _extras(row: Compared) -> list[tuple[str, str]]:
    known = row.recorded or Recorded()
    return [
        ("loss, teacher-forced", "" if row.loss is None else f"{row.loss:.3f}"),
        ("minutes of training", "" if known.seconds_training is None else f"{known.seconds_training / 60:.1f}"),
        ("cost", "" if known.cost is None else f"{known.cost:.2f} {known.currency or ''}".strip()),
        ("energy, kWh", "" if known.energy_kwh is None else f"{known.energy_kwh:.3g}"),
        ("CO2, kg, estimated", "" if known.co2_kg is None else f"{known.co2_kg:.2g}"),
    ]


def told(rows: Sequence[Compared]) -> str:
    """What was counted, and by which rule it is judged."""
    first = rows[0]
    unit = "characters" if first.evaluation.leading == "cer" else "words"
    scores, minutes = first.evaluation.scores, first.evaluation.audio_seconds / 60
    said = (
        f"{scores.rows} rows, {minutes:.1f} min of speech; errors are raw; normaliser: {scores.normalizer}. Better or "
        f"worse than {first.name} is said where both the matched pairs (p under 0.05) and the 95 % bootstrap interval "
        f"of the difference in {unit} show it."
    )
    if all(row.loss is None for row in rows):
        return said
    return f"{said} The loss, in nats a token with the right text before it given, has no part in that."


def page_of(rows: Sequence[Compared], data: str, on: date | None = None) -> str:
    """The table and the plot, as a page."""
    titles = heads(rows)
    classes = ("where", *("number" for _ in titles[1:]))
    shown = table("Each model", titles, [cells(row, titles) for row in rows], classes=classes, id_="models")
    figures = [Interval(row.name, row.evaluation.scores.wer, *row.evaluation.scores.wer_interval) for row in rows]
    characters = [Interval(row.name, row.evaluation.scores.cer, *row.evaluation.scores.cer_interval) for row in rows]
    content = join(
        element("header", element("h1", f"{len(rows)} models on ", element("bdi", data))),
        element(
            "main",
            element("p", told(rows), class_="lead"),
            shown,
            element("ul", *(element("li", each) for each in verdicts(rows)), class_="notes"),
            element("h2", "With their 95 % intervals"),
            intervals(figures, "Word error rate, raw", "%"),
            intervals(characters, "Character error rate, raw", "%"),
        ),
        element("footer", f"Written by {MAKER} on {(on or date.today()).isoformat()}."),
    )
    return page(f"{len(rows)} models on {data}", content, MAKER)
