"""Two runtimes on the same clips: how far what they write is apart.

found = compare(source, exported, segments, Reporter())
found.apart, found.tokens_equal, found.first_difference
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment, name_of
from whispertune.errors import AudioError, InputError
from whispertune.publish.runtimes.heard import Clip, Heard, Runtime
from whispertune.reporting import Reporter
from whispertune.score.normalize import leads_with_cer
from whispertune.score.wer import score
from whispertune.windows.batches import read_whole

ENOUGH_WORDS: Final = 500
CHARACTERS_A_WORD: Final = 4  # about, of languages written without spaces


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
    metric: str  # what decides: "wer", or "cer" for languages written without spaces
    first_difference: str | None
    audio_seconds: float
    source_seconds: float  # of decoding, one clip at a time
    export_seconds: float

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

    def told(self, allowed: float) -> str:
        """How far apart they are, in words."""
        source, export, amount = self.wer_source, self.wer_export, f"{self.words} words"
        if self.metric == "cer":
            source, export, amount = self.cer_source, self.cer_export, f"{self.characters} characters"
        return (
            f"{self.apart:.2f} {self.metric.upper()} from the source ({source:.2f} there, {export:.2f} here, "
            f"at most {allowed} allowed) on {self.clips} clips with {amount}"
        )


def enough_clips(segments: Sequence[Segment]) -> list[Segment]:
    """The first segments that have 500 reference words together, or as much text without spaces; all of fewer."""
    chosen: list[Segment] = []
    words = 0.0
    for segment in segments:
        if words >= ENOUGH_WORDS:
            break
        chosen.append(segment)
        unspaced = leads_with_cer(segment.language)
        words += len(segment.text) / CHARACTERS_A_WORD if unspaced else len(segment.text.split())
    return chosen


def compare(source: Runtime, exported: Runtime, segments: Sequence[Segment], tell: Reporter) -> Comparison:
    """Decode the segments that can be read with both, one after the other; count how far they are apart.

    Raises:
        InputError: none of them can be read.
    """
    found, clips = _clips(segments)
    if not found:
        where = name_of(segments[0].recording)
        raise InputError("none of the clips to verify with decodes", where=where, fix="give others with --data")
    theirs, source_s = _hear(source, clips, "the source", tell)
    ours, export_s = _hear(exported, clips, "the export", tell)
    ids, references, language = [each.id for each in found], [each.text for each in found], found[0].language
    there, _ = score(ids, references, [each.text for each in theirs], language)
    here, utterances = score(ids, references, [each.text for each in ours], language)
    pairs = [(a.text.strip(), b.text.strip()) for a, b in zip(theirs, ours, strict=True)]
    return Comparison(
        clips=len(found),
        words=sum(utterance.words.reference_length for utterance in utterances),
        characters=sum(utterance.characters.reference_length for utterance in utterances),
        texts_equal=sum(a == b for a, b in pairs),
        tokens_equal=sum(a.tokens == b.tokens for a, b in zip(theirs, ours, strict=True)),
        wer_source=there.wer,
        wer_export=here.wer,
        cer_source=there.cer,
        cer_export=here.cer,
        metric="cer" if leads_with_cer(language) else "wer",
        first_difference=next((f"{a!r} became {b!r}" for a, b in pairs if a != b), None),
        audio_seconds=sum(each.duration_s for each in found),
        source_seconds=source_s,
        export_seconds=export_s,
    )


def _clips(segments: Sequence[Segment]) -> tuple[list[Segment], list[Clip]]:
    found, clips = [], []
    with AudioReader() as reader:
        for segment in segments:
            try:
                samples = read_whole(reader, segment.recording, segment.start_s, segment.end_s)
            except AudioError:
                continue  # the other clips tell as much
            found.append(segment)
            clips.append(Clip(samples, segment.language, segment.task))
    return found, clips


def _hear(runtime: Runtime, clips: Sequence[Clip], what: str, tell: Reporter) -> tuple[list[Heard], float]:
    start = time.perf_counter()
    heard = []
    for done, each in enumerate(clips, start=1):
        heard.append(runtime.hear(each))
        tell.evaluating(f"{what}, by {runtime.name}", done, len(clips))
    return heard, time.perf_counter() - start
