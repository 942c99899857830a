"""Word and character error rates, with the errors by kind and the alignment behind every figure.

    scores, utterances = score(["a"], ["den gamla bron"], ["den gamle bron"], "sv")
    score(ids, references, hypotheses, ["en", "hi", "hi"])  # each text is normalised by its own language
    score(ids, references, hypotheses, "ar", normalizer=normalizer_named("arabic+alef"))  # or all by one
    scores.wer, scores.wer_interval  # 33.3, (33.3, 33.3), per cent
    utterances[0].words.mer, utterances[0].words.wil  # 33.3, 55.6
    utterances[0].alignment[1]  # Edit("S", ("gamla",), ("gamle",))
    write_utterances(run / "evaluations" / "step-400.jsonl", utterances)

Raw text is the text as it stands, in Unicode NFC and with whitespace collapsed. Characters are code points
after that, the single spaces between words among them: a combining mark is a character of its own. A corpus rate
divides the summed errors by the summed reference length.

Every text has a score. Where the reference is empty, all words of the hypothesis are insertions: they count in the
corpus, without adding length, and alone they are 100 per cent each (match error rate and information lost: 100).
Where the hypothesis is empty, all reference words are deletions: 100 per cent of each figure. Two empty texts: 0.
Where it is in another script than the reference, no word is equal: 100 per cent and more, and so for characters
but for the spaces, digits and punctuation that both have; nothing is transliterated. A rate of words says little in
scripts without spaces, where a text is one word or few: there normalised words are single characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import starmap
from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.errors import DataError
from whispertune.score.compounds import merged_errors
from whispertune.score.normalize import Normalizer, label_of, normalizer_for, one_each, raw_text
from whispertune.score.statistics import bootstrap_interval, speaker_groups

_KINDS: Final = {"equal": "=", "substitute": "S", "delete": "D", "insert": "I"}
_RATES: Final = {  # an utterance's rates in its file, and the counts they are of
    "wer": "words",
    "cer": "characters",
    "wer_normalized": "words_normalized",
    "cer_normalized": "characters_normalized",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Words (or characters) by what became of them."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference length, in per cent. Of an empty reference: 100 for every insertion."""
        return self.per_cent(self.errors)

    def per_cent(self, number: int) -> float:
        return 100.0 * number / max(1, self.reference_length)

    @property
    def hypothesis_length(self) -> int:
        return self.hits + self.substitutions + self.insertions

    @property
    def mer(self) -> float:
        """Match error rate, in per cent: errors per edit, hits among them, so never more than 100."""
        return 100.0 * self.errors / max(1, self.errors + self.hits)

    @property
    def wil(self) -> float:
        """Word information lost, in per cent: 1 less the share of both texts, multiplied, that is hits.

        Of two empty texts: 0, of one: 100. After A. C. Morris, V. Maier and P. Green, "From WER and RIL to MER
        and WIL", Interspeech 2004, in the form that all use, which takes hits for information.
        """
        if not self.hits:
            return 100.0 if self.errors else 0.0
        return 100.0 * (1 - self.hits / self.reference_length * (self.hits / self.hypothesis_length))

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """A run of words (or characters) with one fate: "=" hit, "S" substituted, "D" deleted, "I" inserted."""

    kind: str
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alignment:
    """The edits that turn the reference into the hypothesis, in order, and their counts."""

    counts: Counts
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """One utterance: raw reference and hypothesis, counts raw and normalised, and the raw words aligned."""

    id: str
    reference: str
    hypothesis: str
    words: Counts
    characters: Counts
    words_normalized: Counts
    characters_normalized: Counts
    alignment: tuple[Edit, ...]
    errors_merged: int | None = None  # of words; None where read from a file of before these were counted
    errors_merged_normalized: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """A corpus, in per cent; raw words where nothing else is said; intervals are of 95 per cent."""

    rows: int
    wer: float  # substitutions + deletions + insertions
    cer: float
    wer_normalized: float
    cer_normalized: float
    wer_interval: tuple[float, float]
    cer_interval: tuple[float, float]
    wer_normalized_interval: tuple[float, float]
    cer_normalized_interval: tuple[float, float]
    hits: float  # hits + substitutions + deletions = 100
    substitutions: float
    deletions: float
    insertions: float
    mer: float  # match error rate
    mer_normalized: float
    wil: float  # word information lost
    wil_normalized: float
    wer_merged: float  # differences of a space alone count as none, see compounds.py
    wer_merged_normalized: float
    normalizer: str  # name and version; of several, all of them

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Scores | None:
        """As they were saved, other names left aside; None where figures are missing."""
        if not all(each.name in content for each in fields(cls)):
            return None
        values: dict[str, Any] = {each.name: content[each.name] for each in fields(cls)}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values)


def align_words(reference: str, hypothesis: str) -> Alignment:
    """Align the raw words of two texts; either may be empty."""
    return align_all([raw_text(reference)], [raw_text(hypothesis)])[0]


def align_characters(reference: str, hypothesis: str) -> Alignment:
    """Align the raw characters of two texts, spaces between words included; either may be empty."""
    return align_all([raw_text(reference)], [raw_text(hypothesis)], characters=True)[0]


def score(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    language: str | Sequence[str],
    speakers: Sequence[str | None] | None = None,
    seed: int = 0,
    *,
    normalizer: Normalizer | None = None,
) -> tuple[Scores, list[UtteranceScore]]:
    """Score decoded text against its references; `speakers` makes the intervals ones over speakers.

    `language` is that of all texts, or of each. A `normalizer` is for all of them, whatever their language.
    """
    languages = [language] * len(ids) if isinstance(language, str) else language
    lengths = {len(ids), len(references), len(hypotheses), len(languages), len(ids if speakers is None else speakers)}
    if len(lengths) > 1 or not ids:
        raise DataError(
            f"cannot score {len(ids)} ids, {len(references)} references and {len(hypotheses)} hypotheses"
            + (f" in {len(languages)} languages" if len(languages) != len(ids) else "")
            + (f" of {len(speakers)} speakers" if speakers is not None else ""),
            fix="give one of each for every utterance, and at least one utterance",
        )
    normalizers = one_each(normalizer or [normalizer_for(each) for each in languages], len(ids))
    utterances = _score_utterances(ids, references, hypotheses, normalizers)
    return _summarise(utterances, label_of(normalizers), speakers, seed), utterances


def _score_utterances(
    ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], normalizers: Sequence[Normalizer]
) -> list[UtteranceScore]:
    raw = [raw_text(text) for text in references], [raw_text(text) for text in hypotheses]
    normalized = [[each(text) for each, text in zip(normalizers, texts, strict=True)] for texts in raw]
    said, heard = ([each.parted(text) for each, text in zip(normalizers, texts, strict=True)] for texts in normalized)
    words, words_normalized = align_all(*raw), _count_all(said, heard)
    counts = (
        [alignment.counts for alignment in words],
        _count_all(*raw, characters=True),
        words_normalized,
        _count_all(*normalized, characters=True),
    )
    edits = [alignment.edits for alignment in words]
    merged = _merge_all(*raw, counts[0]), _merge_all(said, heard, words_normalized)
    return list(starmap(UtteranceScore, zip(ids, *raw, *counts, edits, *merged, strict=True)))


def _merge_all(references: Sequence[str], hypotheses: Sequence[str], counts: Sequence[Counts]) -> list[int]:
    return [
        merged_errors(reference.split(), hypothesis.split(), count.errors)
        for reference, hypothesis, count in zip(references, hypotheses, counts, strict=True)
    ]


def _summarise(
    utterances: Sequence[UtteranceScore],
    normalizer: str,
    speakers: Sequence[str | None] | None,
    seed: int,
) -> Scores:
    each_counts = (
        [utterance.words for utterance in utterances],
        [utterance.characters for utterance in utterances],
        [utterance.words_normalized for utterance in utterances],
        [utterance.characters_normalized for utterance in utterances],
    )
    words, characters, words_normalized, characters_normalized = (sum(each, Counts()) for each in each_counts)
    intervals = [_interval(each, speakers, seed) for each in each_counts]
    return Scores(
        rows=len(utterances),
        wer=words.rate,
        cer=characters.rate,
        wer_normalized=words_normalized.rate,
        cer_normalized=characters_normalized.rate,
        wer_interval=intervals[0],
        substitutions=words.per_cent(words.substitutions),
        deletions=words.per_cent(words.deletions),
        insertions=words.per_cent(words.insertions),
        normalizer=normalizer,
        wer_normalized_interval=intervals[2],
        cer_interval=intervals[1],
        cer_normalized_interval=intervals[3],
        hits=words.per_cent(words.hits),
        mer=words.mer,
        mer_normalized=words_normalized.mer,
        wil=words.wil,
        wil_normalized=words_normalized.wil,
        wer_merged=words.per_cent(sum(each.errors_merged or 0 for each in utterances)),
        wer_merged_normalized=words_normalized.per_cent(sum(each.errors_merged_normalized or 0 for each in utterances)),
    )


def _interval(counts: Sequence[Counts], speakers: Sequence[str | None] | None, seed: int) -> tuple[float, float]:
    return bootstrap_interval(
        np.array([each.errors for each in counts]),
        np.array([each.reference_length for each in counts]),
        groups=speaker_groups(speakers),
        seed=seed,
    )


def align_all(references: Sequence[str], hypotheses: Sequence[str], *, characters: bool = False) -> list[Alignment]:
    """Align pairs of texts as they are: raw or normalised before, every run of whitespace one space."""
    output = _process(references, hypotheses, characters)
    return [
        Alignment(_count(chunks), tuple(_edit(chunk, reference, hypothesis) for chunk in chunks))
        for reference, hypothesis, chunks in zip(output.references, output.hypotheses, output.alignments, strict=True)
    ]


def _count_all(references: Sequence[str], hypotheses: Sequence[str], *, characters: bool = False) -> list[Counts]:
    return [_count(chunks) for chunks in _process(references, hypotheses, characters).alignments]


def _process(references: Sequence[str], hypotheses: Sequence[str], characters: bool) -> Any:
    import jiwer

    process = jiwer.process_characters if characters else jiwer.process_words
    return process(list(references), list(hypotheses))


def _count(chunks: Sequence[Any]) -> Counts:
    numbers = dict.fromkeys(_KINDS, 0)
    for chunk in chunks:
        spans = chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
        numbers[chunk.type] += max(spans)
    return Counts(numbers["equal"], numbers["substitute"], numbers["delete"], numbers["insert"])


def _edit(chunk: Any, reference: Sequence[str], hypothesis: Sequence[str]) -> Edit:
    return Edit(
        _KINDS[chunk.type],
        tuple(reference[chunk.ref_start_idx : chunk.ref_end_idx]),
        tuple(hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]),
    )


def write_utterances(path: Path, utterances: Iterable[UtteranceScore]) -> None:
    """One JSON object a line: texts, counts, rates in per cent, alignment, so that people see what went wrong.

    The rates have the names of the corpus's, and its rule for empty references: 100 for every insertion.
    """
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for utterance in utterances:
            lines.write(json.dumps(_to_row(utterance), ensure_ascii=False) + "\n")


def read_utterances(path: Path) -> list[UtteranceScore]:
    try:
        with path.open(encoding="utf-8") as lines:
            return [_from_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path), fix="evaluate again") from error


def _to_row(utterance: UtteranceScore) -> dict[str, Any]:
    edits = [[edit.kind, list(edit.reference), list(edit.hypothesis)] for edit in utterance.alignment]
    rates = {name: getattr(utterance, counts).rate for name, counts in _RATES.items()}
    return asdict(utterance) | rates | {"alignment": edits}


def _from_line(line: str, where: str) -> UtteranceScore:
    try:
        row = json.loads(line)
        return UtteranceScore(
            id=row["id"],
            reference=row["reference"],
            hypothesis=row["hypothesis"],
            words=Counts(**row["words"]),
            characters=Counts(**row["characters"]),
            words_normalized=Counts(**row["words_normalized"]),
            characters_normalized=Counts(**row["characters_normalized"]),
            alignment=tuple(
                Edit(kind, tuple(reference), tuple(hypothesis)) for kind, reference, hypothesis in row["alignment"]
            ),
            errors_merged=row.get("errors_merged"),
            errors_merged_normalized=row.get("errors_merged_normalized"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"not a scored utterance: {error!r}", where=where, fix="evaluate again, or remove the line"
        ) from error
