"""Word and character error rates, with the errors by kind and the alignment behind every figure.

    scores, utterances = score(["a"], ["den gamla bron"], ["den gamle bron"], "sv")
    scores.wer, scores.wer_interval  # 33.3, (33.3, 33.3), per cent
    utterances[0].alignment[1]  # Edit("S", ("gamla",), ("gamle",))
    write_utterances(run / "evaluations" / "step-400.jsonl", utterances)

Raw text is the text as it stands, in Unicode NFC and with whitespace collapsed. Characters are code points
after that, the single spaces between words among them. A corpus rate divides the summed errors by the summed
reference length, so an utterance without a reference adds its insertions and no length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.errors import DataError
from whispertune.score.normalize import Normalizer, normalizer_for, raw_text
from whispertune.score.statistics import bootstrap_interval

_KINDS: Final = {"equal": "=", "substitute": "S", "delete": "D", "insert": "I"}


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


@dataclass(frozen=True, slots=True)
class Scores:
    """A corpus, in per cent of the reference length; wer = substitutions + deletions + insertions."""

    rows: int
    wer: float
    cer: float
    wer_normalized: float
    cer_normalized: float
    wer_interval: tuple[float, float]  # 95 per cent, of the raw wer
    substitutions: float  # of words, raw, as are the next two
    deletions: float
    insertions: float
    normalizer: str  # name and version


def align_words(reference: str, hypothesis: str) -> Alignment:
    """Align the raw words of two texts; either may be empty."""
    return _align_all([raw_text(reference)], [raw_text(hypothesis)])[0]


def align_characters(reference: str, hypothesis: str) -> Alignment:
    """Align the raw characters of two texts, spaces between words included; either may be empty."""
    return _align_all([raw_text(reference)], [raw_text(hypothesis)], characters=True)[0]


def score(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    language: str,
    speakers: Sequence[str | None] | None = None,
    seed: int = 0,
) -> tuple[Scores, list[UtteranceScore]]:
    """Score decoded text against its references; `speakers` makes the interval one over speakers."""
    lengths = {len(ids), len(references), len(hypotheses), len(ids if speakers is None else speakers)}
    if len(lengths) > 1 or not ids:
        raise DataError(
            f"cannot score {len(ids)} ids, {len(references)} references and {len(hypotheses)} hypotheses"
            + (f" of {len(speakers)} speakers" if speakers is not None else ""),
            fix="give one of each for every utterance, and at least one utterance",
        )
    normalizer = normalizer_for(language)
    utterances = _score_utterances(ids, references, hypotheses, normalizer)
    return _summarise(utterances, normalizer, speakers, seed), utterances


def _score_utterances(
    ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], normalizer: Normalizer
) -> list[UtteranceScore]:
    raw = [raw_text(text) for text in references], [raw_text(text) for text in hypotheses]
    normalized = [normalizer(text) for text in raw[0]], [normalizer(text) for text in raw[1]]
    words = _align_all(*raw)
    counts = (
        [alignment.counts for alignment in words],
        _count_all(*raw, characters=True),
        _count_all(*normalized),
        _count_all(*normalized, characters=True),
    )
    edits = [alignment.edits for alignment in words]
    return list(starmap(UtteranceScore, zip(ids, *raw, *counts, edits, strict=True)))


def _summarise(
    utterances: Sequence[UtteranceScore],
    normalizer: Normalizer,
    speakers: Sequence[str | None] | None,
    seed: int,
) -> Scores:
    words = sum((utterance.words for utterance in utterances), Counts())
    interval = bootstrap_interval(
        np.array([utterance.words.errors for utterance in utterances]),
        np.array([utterance.words.reference_length for utterance in utterances]),
        groups=_groups(speakers),
        seed=seed,
    )
    return Scores(
        rows=len(utterances),
        wer=words.rate,
        cer=sum((utterance.characters for utterance in utterances), Counts()).rate,
        wer_normalized=sum((utterance.words_normalized for utterance in utterances), Counts()).rate,
        cer_normalized=sum((utterance.characters_normalized for utterance in utterances), Counts()).rate,
        wer_interval=interval,
        substitutions=words.per_cent(words.substitutions),
        deletions=words.per_cent(words.deletions),
        insertions=words.per_cent(words.insertions),
        normalizer=normalizer.label,
    )


def _groups(speakers: Sequence[str | None] | None) -> np.ndarray[tuple[int], np.dtype[np.str_]] | None:
    """Speakers for the interval, or none where some rows name none: those would pass for one person."""
    known = [speaker for speaker in speakers or () if speaker]
    return np.array(known) if speakers is not None and len(known) == len(speakers) else None


def _align_all(references: Sequence[str], hypotheses: Sequence[str], *, characters: bool = False) -> list[Alignment]:
    """Align raw texts pairwise."""
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
    """One JSON object a line: texts, counts, alignment, so that a person reading it sees what went wrong."""
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
    return asdict(utterance) | {"alignment": edits}


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
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"not a scored utterance: {error!r}", where=where, fix="evaluate again, or remove the line"
        ) from error
