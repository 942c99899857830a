"""Two runtimes on the same clips: how far what they write is apart.

reference = Reference(lambda: Transformers(find_model("my-run")), segments)
found = reference.compare(open_faster_whisper(Path("deployed")), Reporter())
found.apart, found.texts_apart, found.tokens_equal, found.first_difference

Two error rates tell of each other only as long as they are low: of 100 per cent, nothing at all and any other text are
as far from the reference as what the source writes. There the texts of the two are held against each other too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment, name_of
from whispertune.errors import AudioError, InputError
from whispertune.publish.runtimes.heard import Clip, Heard, Runtime
from whispertune.reporting import Reporter
from whispertune.score.normalize import leads_with_cer
from whispertune.score.wer import score
from whispertune.score.written import characters_lead, text_language
from whispertune.windows.batches import read_whole

ENOUGH_WORDS: Final = 500
CHARACTERS_A_WORD: Final = 4  # about, of languages written without spaces
TELLING: Final = 80.0  # per cent; of a source with more errors the rates alone tell too little
# Per cent, of such a source's texts; no text is 100 from them. Measured on 40 clips of Mboshi with the untouched
# whisper-base (WER 99), as CER of all clips together: q8_0 6, int8 13. In q5_0 it loops, and its rate tells (WER 279).
MOST_TEXTS_APART: Final = 50.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same clips through the source and through the export; rates in per cent."""

    clips: int
    words: int  # of the references
    characters: int  # of them
    texts_equal: int  # clips with the very same text
    tokens_equal: int  # clips with the very same tokens
    wer_source: float
    wer_export: float
    cer_source: float
    cer_export: float
    texts_apart: float  # CER of the export's texts with the source's as references: the mean of clips, each at most 100
    metric: str  # what decides: "wer", or "cer" for languages written without spaces
    first_difference: str | None
    audio_seconds: float
    source_seconds: float  # of decoding, one clip at a time
    export_seconds: float
    clips_unreadable: int = 0  # left out
    clips_of_train: int = 0  # of the clips; there where the others have too few words

    @property
    def wer_apart(self) -> float:
        """Points of WER between the two."""
        return abs(self.wer_source - self.wer_export)

    @property
    def cer_apart(self) -> float:
        """Points of CER between the two."""
        return abs(self.cer_source - self.cer_export)

    @property
    def apart(self) -> float:
        """Points between the two, of what decides."""
        return self.cer_apart if self.metric == "cer" else self.wer_apart

    @property
    def telling(self) -> bool:
        """Whether the source's errors are few enough for its rate alone to tell an export from another model."""
        return (self.cer_source if self.metric == "cer" else self.wer_source) <= TELLING

    def passes(self, allowed: float) -> bool:
        """Whether the export does what its source does, as far as these clips tell."""
        return self.apart <= allowed and (self.telling or self.texts_apart <= MOST_TEXTS_APART)

    def told(self, allowed: float) -> str:
        """How far apart they are, in words."""
        source, export, amount = self.wer_source, self.wer_export, f"{self.words} words"
        if self.metric == "cer":
            source, export, amount = self.cer_source, self.cer_export, f"{self.characters} characters"
        trained = f", {self.clips_of_train} of them from train" if self.clips_of_train else ""
        left_out = f", {self.clips_unreadable} more cannot be read" if self.clips_unreadable else ""
        texts = (
            ""
            if self.telling
            else f"; so many errors tell little: its texts are {self.texts_apart:.0f} % from the source's, "
            f"at most {MOST_TEXTS_APART:.0f} % allowed"
        )
        return (
            f"{self.apart:.2f} {self.metric.upper()} from the source ({source:.2f} there, {export:.2f} here, "
            f"at most {allowed} allowed) on {self.clips} clips with {amount}{trained}{left_out}{texts}"
        )


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What the source wrote: a clip and a text for each segment that was read."""

    segments: Sequence[Segment]
    clips: Sequence[Clip]
    heard: Sequence[Heard]
    seconds: float
    unreadable: int  # segments
    of_train: int  # segments


class Reference:
    """Clips, and what the source of exports writes on them: decoded once for all that are held against it."""

    def __init__(
        self, open_source: Callable[[], Runtime], segments: Sequence[Segment], of_train: Sequence[Segment] = ()
    ) -> None:
        """Of the segments the first that can be read are taken, up to 500 words, or as much text without spaces.

        Those `of_train`, which the model was trained on, are taken where the others are not enough.

        Raises:
            InputError: there are none; nothing would be verified.
        """
        if not segments:
            raise InputError("no clips to verify the export with", fix="give some with --data, or --no-verify")
        self._open_source, self._segments = open_source, segments
        self._of_train = of_train
        self._decoded: _Decoded | None = None

    def compare(self, exported: Runtime, tell: Reporter) -> Comparison:
        """Decode the same clips with an export too; count how far it is from the source.

        Raises:
            InputError: none of the segments can be read.
        """
        source = self._decoded = self._decoded or self._decode(tell)
        heard, seconds = _hear(exported, source.clips, "the export", tell)
        return _comparison(source, heard, seconds)

    def _decode(self, tell: Reporter) -> _Decoded:
        found, clips, unreadable = _clips([*self._segments, *self._of_train])
        if not found:
            where = name_of(self._segments[0].recording)
            raise InputError("none of the clips to verify with decodes", where=where, fix="give others with --data")
        heard, seconds = _hear(self._open_source(), clips, "the source", tell)
        trained = max(0, len(found) + unreadable - len(self._segments))
        return _Decoded(found, clips, heard, seconds, unreadable, trained)


def _comparison(source: _Decoded, heard: Sequence[Heard], seconds: float) -> Comparison:
    found = source.segments
    ids, references, languages = zip(*((each.id, each.text, text_language(each)) for each in found), strict=True)
    there, _ = score(ids, references, [each.text for each in source.heard], languages)
    here, utterances = score(ids, references, [each.text for each in heard], languages)
    _, between = score(ids, [each.text for each in source.heard], [each.text for each in heard], languages)
    pairs = [(a.text.strip(), b.text.strip()) for a, b in zip(source.heard, heard, strict=True)]
    return Comparison(
        clips=len(found),
        words=sum(utterance.words.reference_length for utterance in utterances),
        characters=sum(utterance.characters.reference_length for utterance in utterances),
        texts_equal=sum(a == b for a, b in pairs),
        tokens_equal=sum(a.tokens == b.tokens for a, b in zip(source.heard, heard, strict=True)),
        wer_source=there.wer,
        wer_export=here.wer,
        cer_source=there.cer,
        cer_export=here.cer,
        texts_apart=sum(min(100.0, each.characters.rate) for each in between) / len(between),
        metric="cer" if characters_lead(found) else "wer",
        first_difference=next((f"{a!r} became {b!r}" for a, b in pairs if a != b), None),
        audio_seconds=sum(each.duration_s for each in found),
        source_seconds=source.seconds,
        export_seconds=seconds,
        clips_unreadable=source.unreadable,
        clips_of_train=source.of_train,
    )


def _clips(segments: Sequence[Segment]) -> tuple[list[Segment], list[Clip], int]:
    """The first that can be read, with enough text together, and how many before the last of them cannot."""
    found: list[Segment] = []
    clips: list[Clip] = []
    words, unreadable = 0.0, 0
    with AudioReader() as reader:
        for segment in segments:
            if words >= ENOUGH_WORDS:
                break
            try:
                samples = read_whole(reader, segment.recording, segment.start_s, segment.end_s)
            except AudioError:
                unreadable += 1
                continue
            found.append(segment)
            clips.append(Clip(samples, segment.language, segment.task))
            words += words_of(segment)
    return found, clips, unreadable


def words_of(segment: Segment) -> float:
    """How many words a text counts as, in languages written without spaces about."""
    unspaced = leads_with_cer(text_language(segment))
    return len(segment.text) / CHARACTERS_A_WORD if unspaced else len(segment.text.split())


def _hear(runtime: Runtime, clips: Sequence[Clip], what: str, tell: Reporter) -> tuple[list[Heard], float]:
    start = time.perf_counter()
    heard = []
    for done, each in enumerate(clips, start=1):
        heard.append(runtime.hear(each))
        tell.evaluating(f"{what}, by {runtime.name}", done, len(clips))
    return heard, time.perf_counter() - start
