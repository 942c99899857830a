"""Packing: Segments into 30 s Windows, with no text lost and none twice.

    stretches = cut(segments, limits, count_tokens, rng)   # neighbouring cues with the audio between them
    windows = join(stretches, limits, rng)                 # loose stretches side by side, up to 30 s

Cues that follow each other in a recording stay together. Where the next cue would pass the end of the
window, it is announced by its start (`cut`) and written in the window that begins with it. Everything here
is a pure function of its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whispertune.data.segments import Segment
from whispertune.errors import DataError

WINDOW_S = 30.0
GRID_S = 0.02  # timestamps are multiples of this
SLACK_S = 1e-6  # times are sums of floats
MAX_PREVIOUS_CUES = 40  # more never fit into the 222 tokens of a prompt

CountTokens = Callable[[Segment], int]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a window may hold."""

    max_tokens: int = 220  # after the prefix: timestamps, text and the end; decoders stop near there
    max_gap_s: float = 5.0  # a longer pause between two cues ends a stretch
    max_lead_s: float = 1.0  # a window starts at most this long before its first cue


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one recording with its cues, and where it stands in the window.

    `cut` is the cue that begins inside the stretch and ends after it: heard in part, not written here.
    `previous` holds the texts right before the first cue, oldest first.
    """

    recording: Path
    start_s: float  # in the recording
    end_s: float  # in the recording
    segments: tuple[Segment, ...]
    tokens: int  # what its labels take, with timestamps
    cut: Segment | None = None
    previous: tuple[str, ...] = ()
    offset_s: float = 0.0  # in the window, on the 20 ms grid

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def written_end_s(self) -> float:
        """Where the last cue that is written ends, in the recording."""
        return self.segments[-1].end_s

    @property
    def grid_steps(self) -> int:
        """Its length in steps of 20 ms, rounded up."""
        return math.ceil((self.duration_s - SLACK_S) / GRID_S)


@dataclass(frozen=True, slots=True)
class Window:
    """At most 30 s: one stretch of a recording, or several stretches one after the other."""

    pieces: tuple[Piece, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(segment for piece in self.pieces for segment in piece.segments)

    @property
    def language(self) -> str:
        return self.pieces[0].segments[0].language

    @property
    def task(self) -> str:
        return self.pieces[0].segments[0].task

    @property
    def duration_s(self) -> float:
        """Seconds of audio in it, padding apart."""
        return sum(piece.duration_s for piece in self.pieces)


def chains(segments: Iterable[Segment], limits: Limits) -> Iterator[list[Segment]]:
    """Runs of segments that follow each other in one recording, in one language and task."""
    chain: list[Segment] = []
    for segment in segments:
        last = chain[-1] if chain else None
        if last is None or (
            segment.continues
            and segment.recording == last.recording
            and (segment.language, segment.task) == (last.language, last.task)
            and segment.start_s - last.end_s <= limits.max_gap_s
        ):
            chain.append(segment)
            continue
        yield chain
        chain = [segment]
    if chain:
        yield chain


def cut(
    segments: Iterable[Segment], limits: Limits, count_tokens: CountTokens, rng: np.random.Generator
) -> list[Piece]:
    """Cut the segments, in recording order, into stretches of at most 30 s and `max_tokens`.

    Raises:
        DataError: a single segment is longer than 30 s or than `max_tokens` (sources and `fits` sort these out).
    """
    return [piece for chain in chains(segments, limits) for piece in _cut_chain(chain, limits, count_tokens, rng)]


def fits(segment: Segment, limits: Limits, count_tokens: CountTokens) -> bool:
    """Whether the segment alone can be a window."""
    return segment.duration_s <= WINDOW_S + SLACK_S and count_tokens(segment) + 3 <= limits.max_tokens


def _cut_chain(
    chain: Sequence[Segment], limits: Limits, count_tokens: CountTokens, rng: np.random.Generator
) -> Iterator[Piece]:
    first = 0
    while first < len(chain):
        if not fits(chain[first], limits, count_tokens):
            raise DataError("too long for one window", where=chain[first].id, fix="split it into shorter cues")
        lead_s = min(chain[first].lead_s, limits.max_lead_s, max(0.0, WINDOW_S - chain[first].duration_s))
        start_s = max(0.0, chain[first].start_s - lead_s * rng.random())
        end = _count_whole(chain, first, start_s, limits, count_tokens)
        whole = tuple(chain[first:end])
        tokens = sum(count_tokens(segment) + 2 for segment in whole)
        straddler = _straddler(chain, end, start_s, tokens + 2 <= limits.max_tokens)
        yield Piece(
            recording=whole[0].recording,
            start_s=start_s,
            end_s=start_s + WINDOW_S if straddler else whole[-1].end_s,
            segments=whole,
            tokens=tokens + (1 if straddler else 0),
            cut=straddler,
            previous=tuple(segment.text for segment in chain[max(0, first - MAX_PREVIOUS_CUES) : first]),
        )
        first = end


def _count_whole(
    chain: Sequence[Segment], first: int, start_s: float, limits: Limits, count_tokens: CountTokens
) -> int:
    """The index after the last cue that stands whole in a window from `start_s`."""
    tokens, end = count_tokens(chain[first]) + 2, first + 1
    while end < len(chain) and chain[end].end_s - start_s <= WINDOW_S + SLACK_S:
        tokens += count_tokens(chain[end]) + 2
        if tokens + 1 > limits.max_tokens:  # one for the end of text
            break
        end += 1
    return end


def _straddler(chain: Sequence[Segment], end: int, start_s: float, room: bool) -> Segment | None:
    """The cue that begins in the window and ends after it. One that was left for its tokens is none."""
    if end == len(chain) or not room:
        return None
    begins, ends = chain[end].start_s - start_s, chain[end].end_s - start_s
    return chain[end] if begins <= WINDOW_S - GRID_S and ends > WINDOW_S + SLACK_S else None


def join(pieces: Sequence[Piece], limits: Limits, rng: np.random.Generator) -> list[Window]:
    """Put the pieces into as few windows as first-fit decreasing finds, in random order within each.

    Only pieces of one language and task share a window. First-fit decreasing needs at most 11/9 of the
    fewest windows possible, plus one (Johnson 1973).
    """
    order = sorted(rng.permutation(len(pieces)), key=lambda index: -pieces[index].grid_steps)
    bins: list[list[Piece]] = []
    for index in order:
        piece = pieces[index]
        for content in bins:
            if _share(content, piece, limits):
                content.append(piece)
                break
        else:
            bins.append([piece])
    return [_place([content[i] for i in rng.permutation(len(content))]) for content in bins]


def _share(content: Sequence[Piece], piece: Piece, limits: Limits) -> bool:
    one, other = content[0].segments[0], piece.segments[0]
    steps = sum(each.grid_steps for each in content) + piece.grid_steps
    tokens = sum(each.tokens for each in content) + piece.tokens + 1
    return (
        (one.language, one.task) == (other.language, other.task)
        and steps <= round(WINDOW_S / GRID_S)
        and tokens <= limits.max_tokens
    )


def _place(content: Sequence[Piece]) -> Window:
    steps, placed = 0, []
    for piece in content:
        placed.append(replace(piece, offset_s=steps * GRID_S))
        steps += piece.grid_steps
    return Window(tuple(placed))
