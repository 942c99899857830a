"""How much of the meaning is lost where words are wrong, by sentence embeddings.

    embedder = load_embedder(Path("models/paraphrase-multilingual-MiniLM-L12-v2"))
    scores = score_meaning(utterances, embedder, "en")      # or the language of each text
    scores.lost                    # per cent, over all rows: 0 where every text says what was said
    scores.wrong[0].hypothesis     # the text that is the furthest from what was said

Two slips cost a word each, and one of them turns "do not take it" into "do take it". What is lost is 1 less the cosine
of the embeddings of reference and hypothesis, and all where one of them has more negations than the other: embeddings
hardly see these (of a common model, "do take this medicine" is nearer to "do not take this medicine" than "do not take
these medicines" is). Words that negate are known of some languages, `NEGATIONS`; elsewhere the cosine alone counts.

Utterances without errors, as the normaliser leaves them, are not embedded: nothing is lost. Nor are empty texts, which
embeddings are not made for: where one of two texts is empty, all is lost. Models differ, so figures are only compared
where one model made them.

This is an extra: the model is any folder that sentence-transformers saved (`pip install "whispertune[meaning]"`),
and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from whispertune.errors import InputError
from whispertune.languages import code_of
from whispertune.score.normalize import normalizer_for
from whispertune.score.wer import UtteranceScore

MARK: Final = "modules.json"  # every folder of sentence-transformers has one

# Language -> words that negate and mean little else, as the normaliser leaves them.
NEGATIONS: Final = {
    language: frozenset(words.split())
    for language, words in {
        "en": "not no never none nobody nothing nowhere neither nor cannot without",
        "da": "ikke aldrig ingen intet ingenting nej uden",
        "de": "nicht kein keine keinen keinem keiner keines nie niemals nichts niemand ohne weder nein",
        "el": "δεν δε μην μη όχι ποτέ τίποτα χωρίς",
        "es": "no nunca jamás nada nadie ningún ninguno ninguna sin tampoco",
        "fi": "ei en et emme ette eivät älä ilman",
        "fr": "pas jamais rien aucun aucune sans non",
        "hi": "नहीं मत",
        "hu": "nem ne sem soha nincs nélkül senki semmi",
        "id": "tidak bukan jangan tak belum tanpa",
        "it": "non no mai niente nulla nessuno nessuna nessun senza né",
        "nl": "niet geen nooit niets niemand zonder nee noch",
        "no": "ikke aldri ingen ingenting nei uten",
        "pl": "nie nigdy nic nikt żaden żadna żadne bez ani",
        "pt": "não nunca jamais nada ninguém nenhum nenhuma sem nem",
        "ro": "nu niciodată nimic nimeni fără",
        "ru": "не нет ни никогда ничего никто без нельзя",
        "sv": "inte ej icke aldrig ingen inget inga ingenting nej",
        "uk": "не ні ніколи нічого ніхто без",
    }.items()
}


class Embedder(Protocol):
    """Texts to vectors; `name` says whose figures they are."""

    name: str

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32, (texts, width)."""
        ...


@dataclass(frozen=True, slots=True)
class Meaning:
    """An utterance with errors."""

    id: str
    reference: str
    hypothesis: str
    similarity: float  # of the two texts by their embeddings: 1 the same, 0 nothing in common
    negated: bool = False  # a negation was dropped or added

    @property
    def lost(self) -> float:
        """From 0, nothing, to 1, all."""
        return 1.0 if self.negated else 1.0 - self.similarity


@dataclass(frozen=True, slots=True)
class MeaningScores:
    """A set, in per cent."""

    model: str
    rows: int
    lost: float  # mean over all rows, those without errors among them
    wrong: tuple[Meaning, ...]  # the utterances with errors, those that lost most first

    @property
    def lost_where_wrong(self) -> float | None:
        """The same over the utterances with errors; None where there are none."""
        return self.lost * self.rows / len(self.wrong) if self.wrong else None

    def as_json(self, most: int = 20) -> dict[str, Any]:
        return {
            "model": self.model,
            "rows_wrong": len(self.wrong),
            "rows_negated": sum(each.negated for each in self.wrong),
            "meaning_lost": self.lost,
            "meaning_lost_where_wrong": self.lost_where_wrong,
            "worst": [asdict(each) for each in self.wrong[:most]],
        }


def score_meaning(
    utterances: Sequence[UtteranceScore], embedder: Embedder, language: str | Sequence[str]
) -> MeaningScores:
    """Weigh the errors of a set by what they do to its meaning; `language` is that of all texts, or of each."""
    languages = [language] * len(utterances) if isinstance(language, str) else language
    wrong = [(each, written) for each, written in zip(utterances, languages, strict=True) if _is_wrong(each)]
    compared = [each for each, _ in wrong if each.reference and each.hypothesis]
    known = dict(zip((each.id for each in compared), _similarities(compared, embedder), strict=True))
    negations = {written: _Negations(written) for _, written in wrong}
    found = [
        Meaning(each.id, each.reference, each.hypothesis, known.get(each.id, 0.0), negations[written].differ(each))
        for each, written in wrong
    ]
    return MeaningScores(
        model=embedder.name,
        rows=len(utterances),
        lost=100.0 * sum(each.lost for each in found) / max(1, len(utterances)),
        wrong=tuple(sorted(found, key=lambda each: (-each.lost, each.similarity, each.id))),
    )


def _is_wrong(utterance: UtteranceScore) -> bool:
    return utterance.words_normalized.errors > 0


class _Negations:
    """Counts the words of a language that negate."""

    def __init__(self, language: str) -> None:
        self.words = NEGATIONS.get(code_of(language) or language, frozenset())
        self.normalizer = normalizer_for(language)

    def differ(self, utterance: UtteranceScore) -> bool:
        """Whether one of the two texts has more of them than the other."""
        return self._count(utterance.reference) != self._count(utterance.hypothesis)

    def _count(self, text: str) -> int:
        return sum(word in self.words for word in self.normalizer(text).split())


def _similarities(utterances: Sequence[UtteranceScore], embedder: Embedder) -> list[float]:
    """Cosines, what is below 0 as 0: texts cannot say less than nothing of each other."""
    if not utterances:
        return []
    texts = [each.reference for each in utterances] + [each.hypothesis for each in utterances]
    vectors = np.asarray(embedder.embed(texts), dtype=np.float64)  # (2 * utterances, width)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    said, heard = np.split(vectors, 2)
    return [float(each) for each in np.clip((said * heard).sum(axis=1), 0.0, 1.0)]


class _SentenceTransformer:
    """A model of sentence-transformers."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self.model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False))


def load_embedder(folder: Path) -> Embedder:
    """A model from a folder; nothing is fetched, and no code that lies in it is run.

    Raises:
        InputError: sentence-transformers is not installed, or the folder holds none of its models.
    """
    if not (folder / MARK).is_file():
        raise InputError(
            f"no model of sentence-transformers: there is no {MARK}",
            where=str(folder),
            fix="give the folder that SentenceTransformer.save wrote, or a download of the whole repository",
        )
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise InputError(
            "scores of meaning need sentence-transformers, which is not installed",
            fix='pip install "whispertune[meaning]"',
        ) from error
    disable_progress_bar()  # the weights load in a second or two
    try:
        model = SentenceTransformer(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raise it bare, torch asserts
        raise InputError(
            f"not a model that sentence-transformers can load ({error})", where=str(folder), fix="download it again"
        ) from error
    return _SentenceTransformer(model, folder.resolve().name)
