"""Suspects: rows whose text and audio agree badly, the worst first, for a person to look at.

    suspects, problems = rank_suspects(segments, "bundled:whisper-base", reader)
    suspects[0].reason   # the audio explains nothing of this text (the median of such rows: 35 %); the model wrote ...

A text that is merely rare has a high loss with any audio. So each loss is measured twice, with the audio and with
silence in its place: where the text is as hard to believe either way, the audio says something else. That finds
wrong texts even with a model that does not know the language. Decoding the worst rows shows what the model wrote
instead, and clears those where that is what their text says.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Problem, Segment
from whispertune.decode.engines import LiveModel, best_device, live_engine, load_live
from whispertune.errors import DataError
from whispertune.evaluation.evaluate import decode_segments
from whispertune.evaluation.inputs import Source
from whispertune.inspect.losses import Progress, TextLoss, text_losses
from whispertune.model.load import ModelFolder, find_model
from whispertune.score.normalize import normalizer_for
from whispertune.score.wer import align_characters
from whispertune.score.written import text_language

DECODED_SHARE = 0.2  # of the rows, the worst
DECODED_ROWS = 500  # at most: more than a person will look at
AGREEING_CER = 30.0  # per cent; at or under it the decode says what the text says
FEW_PEERS = 20  # fewer rows of a language and task are compared with all rows
LEAST_SPREAD = 0.01  # of the unexplained share


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row, how much it stands out from its peers, and the figures behind that."""

    segment: Segment
    score: float  # 0 for an ordinary row; in units of the peers' usual spread; higher is worse
    loss_per_token: float  # with its audio, in nats
    gain_per_token: float  # by how much the audio lowers it, against silence
    cer: float | None  # of the decode, in per cent, normalised; None where the row was not decoded
    heard: str | None  # what the model wrote for the audio
    reason: str  # for a person


def rank_suspects(
    segments: Sequence[Segment],
    model: ModelFolder | str,
    reader: AudioReader,
    *,
    decode: bool = True,
    progress: Progress | None = None,
) -> tuple[list[Suspect], list[Problem]]:
    """All rows that can be read, the most suspicious first, and the others as problems.

    `decode` has the worst fifth, at most 500 rows, decoded too. `progress` is told of these behind all rows.

    Raises:
        DataError: there are no segments.
        InputError: the model has no token for a language or task of theirs. ModelError: no such model.
    """
    if not segments:
        raise DataError("no rows to look for suspects in", fix="check the source and its limits")
    live = load_live(find_model(model) if isinstance(model, str) else model)
    live.model.to(best_device())
    decoded_rows = min(DECODED_ROWS, math.ceil(DECODED_SHARE * len(segments))) if decode else 0
    watch = _Watch(progress, 0, len(segments) + decoded_rows)
    losses, problems = text_losses(segments, live, reader, watch)
    ranked = sorted(_suspects(losses), key=_order)
    if decoded_rows:
        worst = _decoded(ranked[:decoded_rows], live, reader, replace(watch, before=len(segments)))
        ranked = sorted([*worst, *ranked[decoded_rows:]], key=_order)
    return ranked, problems


@dataclass(frozen=True, slots=True)
class _Watch:
    """Progress of one part of the work, told as progress of the whole."""

    tell: Progress | None
    before: int
    total: int

    def __call__(self, done: int, _: int) -> None:
        if self.tell:
            self.tell(self.before + done, self.total)


def _order(suspect: Suspect) -> tuple[float, str]:
    return -suspect.score, suspect.segment.id


def _suspects(losses: Sequence[TextLoss]) -> list[Suspect]:
    """Each row against its peers: the rows of its language and task."""
    groups: dict[tuple[str, str], list[TextLoss]] = defaultdict(list)
    for loss in losses:
        groups[loss.segment.language, loss.segment.task].append(loss)
    return [
        suspect
        for group in groups.values()
        for suspect in _against(group, group if len(group) >= FEW_PEERS else losses)
    ]


def _against(rows: Sequence[TextLoss], peers: Sequence[TextLoss]) -> list[Suspect]:
    shares = np.array([peer.unexplained for peer in peers])
    median = float(np.median(shares))
    spread = max(1.4826 * float(np.median(np.abs(shares - median))), LEAST_SPREAD)  # the deviation of a normal one
    return [
        Suspect(
            segment=row.segment,
            score=(row.unexplained - median) / spread,
            loss_per_token=row.heard,
            gain_per_token=row.gain,
            cer=None,
            heard=None,
            reason=_explained(row.unexplained, median),
        )
        for row in rows
    ]


def _explained(share: float, median: float) -> str:
    explained, usual = (f"{100 * (1 - value):.0f} %" if value < 0.995 else "nothing" for value in (share, median))
    return f"the audio explains {explained} of this text (the median of such rows: {usual})"


def _decoded(suspects: Sequence[Suspect], live: LiveModel, reader: AudioReader, progress: Progress) -> list[Suspect]:
    """The same with what the model writes for their audio; where that agrees with the text, nothing is suspicious."""
    engine = live_engine("ctranslate2", live)
    segments = [replace(each.segment, id=str(row)) for row, each in enumerate(suspects)]  # their ids may be equal
    # All were read a moment ago; one that fails now stays as it is, not decoded.
    found, _ = decode_segments(engine, segments, Source(reader), progress=progress)
    texts = {int(each.segment.id): each.text for each in found}
    return [_with_decode(each, texts[row]) if row in texts else each for row, each in enumerate(suspects)]


def _with_decode(suspect: Suspect, heard: str) -> Suspect:
    normalize = normalizer_for(text_language(suspect.segment))
    cer = align_characters(normalize(suspect.segment.text), normalize(heard)).counts.rate
    if cer <= AGREEING_CER:
        reason = f"{suspect.reason}; but the model wrote nearly the same, {heard.strip()!r} (CER {cer:.0f} %)"
        return replace(suspect, score=min(suspect.score, 0.0), cer=cer, heard=heard, reason=reason)
    wrote = f"{heard.strip()!r} (CER {cer:.0f} %)" if heard.strip() else "nothing"
    return replace(suspect, cer=cer, heard=heard, reason=f"{suspect.reason}; the model wrote {wrote}")
