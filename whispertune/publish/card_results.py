"""The figures of a card: base beside tuned, what was forgotten, and how close each export is to its source.

lines = results(facts, rows, translated(facts, rows))      # of Markdown
retention(facts.retention); exports_table(exports)         # likewise
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from whispertune.data.segments import Segment
from whispertune.evaluation.evaluate import Evaluation
from whispertune.evaluation.retention import NAMES, SetChange, SetFigures
from whispertune.publish.exported import Exported
from whispertune.publish.facts import RunFacts
from whispertune.publish.translated import Speakers, Translated, shared
from whispertune.score.comparison import Comparison, compare
from whispertune.score.translation import TranslationComparison

VERDICTS: Final = {
    "better": "A paired test shows the tuned model to be better",
    "worse": "A paired test shows the tuned model to be worse",
    "no difference shown": "A paired test shows no difference between the two",
}


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.1f} ({interval[0]:.1f} to {interval[1]:.1f})"


def _kinds(found: Evaluation) -> str:
    scores = found.scores
    return f"{scores.substitutions:.1f}, {scores.deletions:.1f}, {scores.insertions:.1f}"


RATES: Final[tuple[tuple[str, Callable[[Evaluation], str]], ...]] = (
    ("WER, raw, %", lambda e: _with_interval(e.scores.wer, e.scores.wer_interval)),
    ("WER, normalised, %", lambda e: _with_interval(e.scores.wer_normalized, e.scores.wer_normalized_interval)),
    ("CER, raw, %", lambda e: _with_interval(e.scores.cer, e.scores.cer_interval)),
    ("CER, normalised, %", lambda e: _with_interval(e.scores.cer_normalized, e.scores.cer_normalized_interval)),
    ("substituted, deleted, inserted, % of words", _kinds),
)


def results(facts: RunFacts, rows: Sequence[Segment], translations: Translated | None) -> list[str]:
    """Rates with their intervals, base beside tuned, and what one must know to read them; `rows` say who speaks.

    Of translations BLEU and chrF come first, and BLEU judges.
    """
    columns = {"base": facts.base, "tuned": facts.tuned}
    if facts.tuned_fit is not None and facts.tuned_fit.context != facts.tuned.context:
        columns["tuned, clips cut to what is spoken"] = facts.tuned_fit
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += _translations(translations, len(columns)) if translations else []
    lines += [f"| {name} | {' | '.join(value(each) for each in columns.values())} |" for name, value in RATES]
    return [*lines, "", *_notes(facts, {each.id: each.speaker for each in rows}, translations)]


def _translations(found: Translated, columns: int) -> list[str]:
    every = [each for each in (found.base, found.tuned, found.tuned_fit)[:columns] if each]
    figures = {
        "BLEU": [_with_interval(each.bleu, each.bleu_interval) for each in every],
        "chrF": [_with_interval(each.chrf, each.chrf_interval) for each in every],
    }
    return [f"| {name} | {' | '.join(values)} |" for name, values in figures.items()]


def _notes(facts: RunFacts, speakers: Speakers, translations: Translated | None) -> list[str]:
    tuned, beams = facts.tuned, facts.recipe.evaluation.beams
    how = "greedily" if beams == 1 else f"with {beams} beams"
    notes = [
        f"- On {tuned.scores.rows:,} rows, {tuned.audio_seconds / 60:.1f} minutes, of the {tuned.split} set; "
        "in brackets 95 % intervals by bootstrap.",
        f"- From generated text, decoded {how} by {tuned.engine}. Raw: the text as it stands. "
        f"Normalised: by `{tuned.scores.normalizer}`, both texts alike.",
    ]
    if tuned.biased_by_selection:
        notes.append("- **These rows also chose the checkpoint, so the tuned figures flatter it.**")
    if facts.by_characters:
        notes.append("- Words are not separated by spaces here: CER is the figure to read.")
    if translations:
        found = translations.tuned
        notes.append(
            f"- BLEU (`{found.bleu_signature}`) and chrF (`{found.chrf_signature}`) by sacrebleu, of raw texts: more "
            "is better. WER and CER say little of translations."
        )
    if told := _paired(facts, speakers, translations):
        notes.append(told)
    return notes


def _paired(facts: RunFacts, speakers: Speakers, translations: Translated | None) -> str | None:
    """Whether the difference could be luck, on the rows that both decoded."""
    base, tuned = shared(facts)
    if not base:
        return None
    if translations and translations.compared:
        return _verdict(translations.compared, "BLEU")
    found = compare(base, tuned, speakers=[speakers.get(each.id) for each in base], characters=facts.by_characters)
    return _verdict(found, "CER" if facts.by_characters else "WER")


def _verdict(found: Comparison | TranslationComparison, name: str) -> str:
    low, high = found.interval
    return f"- {VERDICTS[found.verdict]}: {found.difference:+.1f} points of {name}, {low:+.1f} to {high:+.1f}."


def retention(changes: Sequence[SetChange]) -> list[str]:
    """What the base could do, and the tuned model on the same rows."""
    if not changes:
        return [
            "Nothing was measured of what the base model could do besides: other languages and kinds of speech may "
            "have become worse."
        ]
    lines = ["| set | rows | | base, % | tuned, % | relative |", "| --- | ---: | --- | ---: | ---: | --- |"]
    for each in changes:
        doubt = "" if each.shown else ", no difference shown"
        lines.append(
            f"| {each.name} | {each.tuned.rows:,} | {NAMES[each.tuned.metric]} | {_figure(each.base)} "
            f"| {_figure(each.tuned)} | {100 * each.relative:+.0f} %{doubt} |"
        )
    return [*lines, "", "Fewer is better; in brackets 95 % intervals."]


def _figure(found: SetFigures) -> str:
    return _with_interval(found.value, found.interval)


def exports_table(exports: Sequence[Exported]) -> list[str]:
    """Every form of the model, and what came of holding it against its source."""
    lines = ["| format | weights | folder | size | verified |", "| --- | --- | --- | ---: | --- |"]
    for each in exports:
        place = f"`{each.folder}/`" if each.folder else "the root"
        lines.append(
            f"| {each.format} | {each.quantization} | {place} | {each.size_bytes / 1e6:,.0f} MB | {_verified(each)} |"
        )
    if all(each.verified is None for each in exports):
        return lines
    return [
        *lines,
        "",
        "Verified: the same clips went through transformers with the run's own weights (the source) and through each "
        "runtime with the files that lie here.",
    ]


def _verified(exported: Exported) -> str:
    found = exported.verified
    if found is None:
        return "**not verified**"
    speed = (
        f", {found.audio_seconds / found.export_seconds:.1f} times as fast as speech" if found.export_seconds else ""
    )
    return f"{exported.runtime}: {found.told}; tokens equal on {found.tokens_equal} of {found.clips} clips{speed}"
