"""Several models on the same rows: which is better than the first, and is it luck.

rows = comparison({"openai/whisper-small": small, "run-a": a, "run-b": b})
rows[1].verdict, rows[1].against[0].normalized.verdict    # "better", "worse" or "no difference shown"
further(rows)                     # "run-b" against "run-a"
page_of(rows, "data/test")        # a table and plots, HTML
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

from whispertune.drawing.intervals import Interval, intervals
from whispertune.drawing.markup import Markup, element, join
from whispertune.drawing.page import page
from whispertune.drawing.tables import table
from whispertune.errors import DataError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.tokens import RowLoss, mean_loss
from whispertune.model.load import RUN_MARK
from whispertune.score.comparison import Comparison, System, Verdict, aligned, compare_aligned, in_order
from whispertune.score.statistics import Integers
from whispertune.score.translation import (
    TranslationComparison,
    TranslationScores,
    bleu_figures,
    compare_translations,
    score_translated,
)
from whispertune.score.wer import Scores, score
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
class Against:
    """A model against another one, on the same rows."""

    first: str  # the other one
    second: str
    raw: Comparison  # by words or characters, as is the next
    normalized: Comparison
    bleu: TranslationComparison | None = None  # where all rows are translated: then it judges

    @property
    def verdict(self) -> Verdict:
        """Of the second against the first."""
        return self.bleu.verdict if self.bleu else self.raw.verdict

    @property
    def verdict_normalized(self) -> Verdict | None:
        """The same of normalised texts; None where BLEU judges, which takes texts as they stand."""
        return None if self.bleu else self.normalized.verdict

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `compare --json` promises."""
        return {
            "verdict": self.verdict,
            "verdict_normalized": self.verdict_normalized,
            **_figures_json(self.raw, ""),
            **_figures_json(self.normalized, "_normalized"),
            **(_figures_json(self.bleu, "_bleu") if self.bleu else {}),
        }


def _figures_json(found: Comparison | TranslationComparison, kind: str) -> dict[str, Any]:
    return {
        f"difference{kind}": found.difference,
        f"difference{kind}_interval": list(found.interval),
        f"probability_of_improvement{kind}": found.probability_of_improvement,
        **({f"p_value{kind}": found.test.p_value} if isinstance(found, Comparison) else {}),
    }


@dataclass(frozen=True, slots=True)
class Compared:
    """One model among others, on the rows that all of them have."""

    name: str
    evaluation: Evaluation
    against: tuple[Against, ...]  # the models before it, in their order: none for the first
    recorded: Recorded | None = None  # None for what is no run
    loss: float | None = None  # teacher-forced, mean nats a token; None where it was not measured
    translation: TranslationScores | None = None  # of the rows that are translated

    @property
    def verdict(self) -> Verdict | None:
        """Against the first; None for the first."""
        return self.against[0].verdict if self.against else None

    @property
    def judged_by(self) -> str:
        """What the verdicts are of: "bleu" where all rows are translated, else "cer" or "wer", raw."""
        translated = self.translation is not None and self.translation.rows == self.evaluation.scores.rows
        return "bleu" if translated else self.evaluation.leading

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
            "judged_by": self.judged_by,
            **(self.translation.as_json() if self.translation else {}),
            **(self.against[0].as_json() if self.against else {"verdict": None, "verdict_normalized": None}),
            **({name: getattr(self.recorded, name) for name in Recorded.__slots__} if self.recorded else {}),
        }


def comparison(
    evaluations: Mapping[str, Evaluation], losses: Mapping[str, Mapping[str, RowLoss]] | None = None
) -> tuple[Compared, ...]:
    """Each against those before it, by words, or by characters where most rows are written without spaces.

    Where all rows are translated BLEU judges. Rows that a model could not decode are left out for all of them.
    `losses` are the teacher-forced ones of the models that have some, by row, see tokens.py; they are shown and judge
    nothing.

    Raises:
        DataError: fewer than two models, or no row that all of them decoded.
    """
    if len(evaluations) < 2:
        raise DataError("one model alone cannot be compared", fix="name two or more that differ")
    shared = set.intersection(*({each.id for each in found.utterances} for found in evaluations.values()))
    if not shared:
        raise DataError("there is no row that all of the models decoded", fix="compare them on the same data")
    found = {name: _on(each, shared) for name, each in evaluations.items()}
    base = next(iter(found.values()))
    sides = [_Side.of(name, each, base) for name, each in found.items()]
    speakers = [segment.speaker for segment in base.segments]
    known = _shared_losses(losses or {}, shared)
    return tuple(
        Compared(
            side.name,
            found[side.name],
            tuple(other.against(side, speakers) for other in sides[:place]),
            recorded(Path(side.name)),
            known.get(side.name),
            score_translated(found[side.name].utterances, found[side.name].segments),
        )
        for place, side in enumerate(sides)
    )


def further(rows: Sequence[Compared]) -> list[Against]:
    """All pairs of models in which the first has no part."""
    return [against for row in rows for against in row.against[1:]]


@dataclass(frozen=True, slots=True)
class _Side:
    """A model as it is compared, prepared once for all pairs."""

    name: str
    raw: System
    normalized: System
    bleu: Integers | None  # where all rows are translated

    @classmethod
    def of(cls, name: str, found: Evaluation, base: Evaluation) -> _Side:
        """Its texts in the order of the base's, looked at in the same way."""
        utterances, by_characters = in_order(base.utterances, found.utterances), base.leading == "cer"
        texts = [each.reference for each in utterances], [each.hypothesis for each in utterances]
        raw = aligned(utterances, characters=by_characters)
        normalized = aligned(utterances, normalizer=base.normalizers, characters=by_characters)
        translated = all(each.task == "translate" for each in base.segments)
        return cls(name, raw, normalized, bleu_figures(*texts) if translated else None)

    def against(self, second: _Side, speakers: Sequence[str | None]) -> Against:
        """What the second has done, against this one."""
        raw = compare_aligned(self.raw, second.raw, speakers=speakers)
        normalized = compare_aligned(self.normalized, second.normalized, speakers=speakers)
        found = Against(self.name, second.name, raw, normalized)
        if self.bleu is None or second.bleu is None:
            return found
        return replace(found, bleu=compare_translations(self.bleu, second.bleu, speakers))


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

Figure = tuple[float, tuple[float, float]]  # a rate or a score, and its interval
ERRORS: Final = {"WER, %": "wer", "CER, %": "cer", "WER norm., %": "wer_normalized"}
TRANSLATION: Final = {"BLEU": "bleu", "chrF": "chrf"}


def rates(rows: Sequence[Compared]) -> list[tuple[str, list[Figure | None]]]:
    """The columns with intervals, each with its title and the models' figures; BLEU where something is translated."""
    errors = [(title, [_figure(row.evaluation.scores, name) for row in rows]) for title, name in ERRORS.items()]
    texts = [(title, [_figure(row.translation, name) for row in rows]) for title, name in TRANSLATION.items()]
    return texts + errors if any(row.translation for row in rows) else errors


def _figure(found: Scores | TranslationScores | None, name: str) -> Figure | None:
    return None if found is None else (getattr(found, name), getattr(found, f"{name}_interval"))


def extras(rows: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """The other columns: losses only where one was measured, what runs recorded only where one did."""
    of_each = [_extras(row) for row in rows]
    columns = [(of_all[0][0], [value for _, value in of_all]) for of_all in zip(*of_each, strict=True)]
    return [(title, [value or "–" for value in values]) for title, values in columns if any(values)]


def verdicts(rows: Sequence[Compared]) -> list[str]:
    """A sentence of each but the first, against the first; then of each further pair."""
    every = [*(row.against[0] for row in rows[1:]), *further(rows)]
    return [f"{_verdict(found)}{_chance(found)}{_normalized(found)}" for found in every]


def _chance(found: Against) -> str:
    doubt = "" if found.bleu else f", p {_p(found.raw.test.p_value)}"
    return f"{doubt}, better with a probability of {(found.bleu or found.raw).probability_of_improvement:.2f}"


def _verdict(found: Against) -> str:
    shown = f"{found.verdict} than" if found.verdict != "no difference shown" else "no difference shown to"
    against = found.bleu or found.raw
    unit = "points of BLEU" if found.bleu else "points"
    return f"{found.second}: {shown} {found.first}: {against.difference:+.1f} {unit} ({_between(against.interval)})"


def _normalized(found: Against) -> str:
    if found.bleu is not None:
        return ""
    texts = found.normalized
    told = f"; normalised: {texts.verdict}, {texts.difference:+.1f} ({_between(texts.interval)}), "
    return f"{told}p {_p(texts.test.p_value)}{_disagreement(found.verdict, texts.verdict)}"


def _disagreement(raw: Verdict, normalized: Verdict) -> str:
    """What it means where raw and normalised texts tell other things."""
    if raw == normalized:
        return ""
    if normalized == "no difference shown":
        return ": none in words is shown, so it may be one of case, punctuation or spelling alone"
    if raw == "no difference shown":
        return ": it is one in words, which case, punctuation or spelling hide in the raw texts"
    return f": {normalized} in words, {raw} with case, punctuation and spelling"


def _between(interval: tuple[float, float]) -> str:
    return f"95 %: {interval[0]:+.1f} to {interval[1]:+.1f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "under 0.001"


def _extras(row: Compared) -> list[tuple[str, str]]:
    known = row.recorded or Recorded()
    return [
        ("time/speech", f"{row.real_time_factor:.3f}"),
        ("loss, teacher-forced", "" if row.loss is None else f"{row.loss:.3f}"),
        ("minutes of training", "" if known.seconds_training is None else f"{known.seconds_training / 60:.1f}"),
        ("cost", "" if known.cost is None else f"{known.cost:.2f} {known.currency or ''}".strip()),
        ("energy, kWh", "" if known.energy_kwh is None else f"{known.energy_kwh:.3g}"),
        ("CO2, kg, estimated", "" if known.co2_kg is None else f"{known.co2_kg:.2g}"),
    ]


def told(rows: Sequence[Compared]) -> str:
    """What was counted, and by which rule it is judged."""
    first = rows[0]
    scores, minutes = first.evaluation.scores, first.evaluation.audio_seconds / 60
    said = (
        f"{scores.rows} rows, {minutes:.1f} min of speech; errors are raw; normaliser: {scores.normalizer}. Better or "
        f"worse than {first.name} is said where {_rule(first)}."
    )
    if all(row.loss is None for row in rows):
        return said
    return f"{said} The loss, in nats a token with the right text before it given, has no part in that."


def _rule(first: Compared) -> str:
    if first.judged_by == "bleu":
        return "the 95 % interval of the difference in BLEU, by paired bootstrap, leaves out 0, of 6 rows and more"
    unit = "characters" if first.judged_by == "cer" else "words"
    return (
        "both the matched pairs (p under 0.05) and the 95 % bootstrap interval of the difference in "
        f"{unit} show it, of raw texts and then of normalised ones"
    )


def page_of(rows: Sequence[Compared], data: str, on: date | None = None) -> str:
    """The table and the plots, as a page."""
    sentences, firsts = verdicts(rows), len(rows) - 1
    content = join(
        element("header", element("h1", f"{len(rows)} models on ", element("bdi", data))),
        element(
            "main",
            element("p", told(rows), class_="lead"),
            _table(rows),
            element("ul", *(element("li", each) for each in sentences[:firsts]), class_="notes"),
            _further(sentences[firsts:]),
            element("h2", "With their 95 % intervals"),
            *_plots(rows),
        ),
        element("footer", f"Written by {MAKER} on {(on or date.today()).isoformat()}."),
    )
    return page(f"{len(rows)} models on {data}", content, MAKER)


def _table(rows: Sequence[Compared]) -> Markup:
    columns: list[tuple[str, list[str]]] = []
    for title, figures in rates(rows):
        columns.append((title, ["–" if each is None else f"{each[0]:.1f}" for each in figures]))
        columns.append(("95 %", ["–" if each is None else f"{each[1][0]:.1f} to {each[1][1]:.1f}" for each in figures]))
    columns += extras(rows)
    cells = [(row.name, *(values[place] for _, values in columns)) for place, row in enumerate(rows)]
    heads = ("model", *(title for title, _ in columns))
    return table("Each model", heads, cells, classes=("where", *("number" for _ in columns)), id_="models")


def _further(sentences: Sequence[str]) -> Markup:
    if not sentences:
        return Markup()
    listed = element("ul", *(element("li", each) for each in sentences), class_="notes")
    return element("section", element("h2", "The others among each other"), listed, id_="further")


def _plots(rows: Sequence[Compared]) -> list[Markup]:
    names = {"WER, %": ("Word error rate, raw", "%"), "CER, %": ("Character error rate, raw", "%")}
    names |= {title: (title, "points") for title in TRANSLATION}
    plots = []
    for title, figures in rates(rows):
        drawn = [Interval(row.name, each[0], *each[1]) for row, each in zip(rows, figures, strict=True) if each]
        plots += [intervals(drawn, *names[title])] if title in names else []
    return plots
