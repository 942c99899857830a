"""What a model wrote for each utterance, and what stands out in it: all from texts and their alignments.

predictions = Predictions(base=base, tuned=read_utterances(run / "evaluations" / "tuned.jsonl"), language="sv")
predictions.tuned_rate("wer")               # per cent
predictions.decodings                       # what the tuned model wrote, on 30 s and on cut clips
marks = signs(predictions.tuned)
marks.loops, marks.same_beginning, marks.other_script    # shares of the utterances
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from whispertune.data.scripts import script_of
from whispertune.diagnose.history import Metric
from whispertune.score.hallucination import Kind, signs_of
from whispertune.score.normalize import leads_with_cer
from whispertune.score.wer import Counts, UtteranceScore

WHOLE: Final = "30 s"
CUT: Final = "clips cut to what is spoken"
LOOPS: Final[frozenset[Kind]] = frozenset({"compressible", "repeated"})
BURSTS: Final[frozenset[Kind]] = frozenset({"burst", "too many words", "too fast"})
PROMPT_WORDS: Final = 3  # of the row before, at the start of what was written
Split = Literal["dev", "test"]
ENGLISH: Final = frozenset(  # about a third of the words of English text
    re.findall(r"\w+", "the and of to is was that it for you with are this have not they we be at but what from there")
)


@dataclass(frozen=True, slots=True)
class Decoding:
    """What the tuned model wrote, decoded in one way."""

    clips: str  # WHOLE or CUT
    utterances: tuple[UtteranceScore, ...]
    base: tuple[UtteranceScore, ...] = ()  # decoded alike; none where base was not


@dataclass(frozen=True, slots=True)
class Predictions:
    """The same rows as base and tuned model wrote them; any may be missing."""

    tuned: tuple[UtteranceScore, ...] = ()  # on 30 s
    base: tuple[UtteranceScore, ...] = ()  # on 30 s
    cut: tuple[UtteranceScore, ...] = ()  # of the tuned model, on clips cut to what is spoken
    language: str | None = None  # Whisper's code
    durations_s: Mapping[str, float] = field(default_factory=dict)  # by id, where known
    speakers: Mapping[str, str] = field(default_factory=dict)
    split: Split = "dev"  # that was decoded
    leads: Metric | None = None  # the figure to read, as the run says; where it does not, the language tells

    def tuned_rate(self, metric: Metric) -> float:
        """Of the tuned model on 30 s, in per cent."""
        return rate_of(self.tuned, metric)

    @property
    def texts(self) -> tuple[UtteranceScore, ...]:
        """What the tuned model writes: on 30 s, where that was decoded."""
        return self.tuned or self.cut

    @property
    def leading(self) -> Metric:
        """The figure to read of these rows."""
        return self.leads or ("cer" if leads_with_cer(self.language or "") else "wer")

    @property
    def decodings(self) -> tuple[Decoding, ...]:
        """Of the tuned model, those that are there."""
        known = Decoding(WHOLE, self.tuned, self.base), Decoding(CUT, self.cut)
        return tuple(each for each in known if each.utterances)


def rate_of(utterances: Iterable[UtteranceScore], metric: Metric) -> float:
    """In per cent."""
    return sum((each.characters if metric == "cer" else each.words for each in utterances), Counts()).rate


@dataclass(frozen=True, slots=True)
class Signs:
    """Shares of the utterances, 0 to 1, and the texts that show them."""

    rows: int
    loops: float
    bursts: float  # of insertions
    on_silence: float  # text where nothing was said
    empty: float  # nothing written where something was said
    other_script: float
    english: float  # of the words written are English function words, less those of the references
    english_said: float  # of the words of the references
    tokens_as_text: float  # <|...|> written out
    same_beginning: float
    beginning: str  # that they share and their references do not
    same_text: float
    text: str
    prompt_repeated: float
    case_or_punctuation_alone: float  # of the word errors go away with them
    ids: Mapping[str, tuple[str, ...]]  # of the utterances, by the name of the sign


def signs(utterances: Sequence[UtteranceScore]) -> Signs:
    """What stands out in what was written; all shares are 0 where there are no utterances."""
    rows = len(utterances)
    kinds = {each.id: {sign.kind for sign in signs_of(each)} for each in utterances}
    rules: dict[str, Callable[[UtteranceScore], bool]] = {
        "loops": lambda each: bool(kinds[each.id] & LOOPS),
        "bursts": lambda each: bool(kinds[each.id] & BURSTS),
        "other_script": lambda each: "other script" in kinds[each.id],
        "on_silence": lambda each: "on silence" in kinds[each.id],
        "empty": lambda each: bool(each.reference) and not each.hypothesis,
        "tokens_as_text": lambda each: "<|" in each.hypothesis and "<|" not in each.reference,
    }
    found = {name: [each.id for each in utterances if rule(each)] for name, rule in rules.items()}
    found["prompt_repeated"] = _prompt_repeated(utterances)
    beginning, begun = _common(utterances, _beginning)
    text, written = _common(utterances, lambda text: text)
    said = _english(each.reference for each in utterances)

    def share(name: str) -> float:
        return len(found[name]) / max(1, rows)

    return Signs(
        rows=rows,
        loops=share("loops"),
        bursts=share("bursts"),
        on_silence=share("on_silence"),
        empty=share("empty"),
        other_script=share("other_script"),
        english=_english(each.hypothesis for each in utterances) - said,
        english_said=said,
        tokens_as_text=share("tokens_as_text"),
        same_beginning=begun / max(1, rows),
        beginning=beginning,
        same_text=written / max(1, rows),
        text=text,
        prompt_repeated=share("prompt_repeated"),
        case_or_punctuation_alone=spelling_share(utterances),
        ids={name: tuple(ids) for name, ids in found.items()},
    )


def spelling_share(utterances: Sequence[UtteranceScore]) -> float:
    """Of the word errors, those that go when case and punctuation do, 0 to 1.

    Where normalised words are single characters, as in scripts without spaces, of the errors of characters.
    """
    raw = sum((each.words for each in utterances), Counts())
    normalized = sum((each.words_normalized for each in utterances), Counts())
    if normalized.reference_length > 2 * raw.reference_length:
        raw = sum((each.characters for each in utterances), Counts())
        normalized = sum((each.characters_normalized for each in utterances), Counts())
    return max(0.0, 1 - normalized.rate / raw.rate) if raw.errors else 0.0


def _beginning(text: str) -> str:
    return " ".join(text.split()[:2])


def _common(utterances: Sequence[UtteranceScore], part: Callable[[str], str]) -> tuple[str, int]:
    """What most texts share that their own reference has not, and how many do."""
    found = Counter(
        part(each.hypothesis)
        for each in utterances
        if part(each.hypothesis) and part(each.hypothesis).casefold() != part(each.reference).casefold()
    )
    return found.most_common(1)[0] if found else ("", 0)


def _prompt_repeated(utterances: Sequence[UtteranceScore]) -> list[str]:
    """Rows that begin with how the row before ended or began, which their own reference does not."""
    found = []
    for before, each in pairwise(utterances):
        words = each.hypothesis.casefold().split()[:PROMPT_WORDS]
        own, other = each.reference.casefold().split(), before.reference.casefold().split()
        if len(words) == PROMPT_WORDS and not _holds(own, words) and _holds(other, words):
            found.append(each.id)
    return found


def _holds(words: Sequence[str], part: Sequence[str]) -> bool:
    return any(list(words[at : at + len(part)]) == list(part) for at in range(len(words) - len(part) + 1))


def _english(texts: Iterable[str]) -> float:
    """The share of words that are English function words."""
    words = [word.strip(".,?!").casefold() for text in texts for word in text.split()]
    return sum(word in ENGLISH for word in words) / max(1, len(words))


def has_capitals(text: str) -> bool:
    return any(unicodedata.category(character) == "Lu" for character in text)


def has_punctuation(text: str) -> bool:
    """Whether a sentence's marks are in it; hyphens and apostrophes are parts of words."""
    return any(unicodedata.category(each) == "Po" and each not in "'’·" for each in text)


def has_digits(text: str) -> bool:
    return any(character.isdecimal() for character in text)


def scripts_in(text: str) -> frozenset[str]:
    """The scripts of its letters."""
    return frozenset(script for script in map(script_of, text) if script)
