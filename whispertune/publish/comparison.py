"""Two runtimes on the same clips: how far what they write is apart.

reference = Reference(lambda: Transformers(find_model("my-run")), segments)
found = reference.compare(open_faster_whisper(Path("deployed")), Reporter())
found.apart, found.tokens_equal, found.first_difference
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
    clips_unreadable: int = 0  # left out

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
        left_out = f", {self.clips_unreadable} more cannot be read" if self.clips_unreadable else ""
        return (
            f"{self.apart:.2f} {self.metric.upper()} from the source ({source:.2f} there, {export:.2f} here, "
            f"at most {allowed} allowed) on {self.clips} clips with {amount}{left_out}"
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


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What the source wrote: a clip and a text for each segment that can be read."""

    segments: Sequence[Segment]
    clips: Sequence[Clip]
    heard: Sequence[Heard]
    seconds: float
    unreadable: int  # segments


class Reference:
    """Clips, and what the source of exports writes on them: decoded once for all that are held against it."""

    def __init__(self, open_source: Callable[[], Runtime], segments: Sequence[Segment]) -> None:
        """No segments is an InputError: nothing would be verified."""
        if not segments:
            raise InputError("no clips to verify the export with", fix="give some with --data, or --no-verify")
        self._open_source, self._segments = open_source, segments
        self._decoded: _Decoded | None = None

    def compare(self, exported: Runtime, tell: Reporter) -> Comparison:
        """Decode the segments that can be read with an export too; count how far it is from the source.

        Raises:
            InputError: none of them can be read.
        """
        source = self._decoded = self._decoded or self._decode(tell)
        heard, seconds = _hear(exported, source.clips, "the export", tell)
        return _comparison(source, heard, seconds)

    def _decode(self, tell: Reporter) -> _Decoded:
        found, clips = _clips(self._segments)
        if not found:
            where = name_of(self._segments[0].recording)
            raise InputError("none of the clips to verify with decodes", where=where, fix="give others with --data")
        heard, seconds = _hear(self._open_source(), clips, "the source", tell)
        return _Decoded(found, clips, heard, seconds, len(self._segments) - len(found))


def _comparison(source: _Decoded, heard: Sequence[Heard], seconds: float) -> Comparison:
    found = source.segments
    ids, references, language = [each.id for each in found], [each.text for each in found], found[0].language
    there, _ = score(ids, references, [each.text for each in source.heard], language)
    here, utterances = score(ids, references, [each.text for each in heard], language)
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
        metric="cer" if leads_with_cer(language) else "wer",
        first_difference=next((f"{a!r} became {b!r}" for a, b in pairs if a != b), None),
        audio_seconds=sum(each.duration_s for each in found),
        source_seconds=source.seconds,
        export_seconds=seconds,
        clips_unreadable=source.unreadable,
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
