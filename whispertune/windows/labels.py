"""Labels: what the decoder reads and what it is to answer, token by token.

    labels = label(window, vocabulary, timestamps=True, prompted=False)
    labels.inputs   # <|startoftranscript|> <|sv|> <|transcribe|> <|0.00|> ...
    labels.targets  # the token that follows each input, or IGNORE where there is no loss

A window is trained as decoding will ask for it: one start token, language, task (English-only models take
neither), timestamps or `<|notimestamps|>`, text, one end. Loss stands on text, timestamps, the end and, where
wanted, the language; previous text, start, task and `<|notimestamps|>` carry none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from whispertune.data.segments import Segment
from whispertune.windows.pack import GRID_S, Piece, Window
from whispertune.windows.tokens import Vocabulary

IGNORE = -100  # torch's cross_entropy leaves these targets out
MAX_INPUTS = 448  # the decoder's position table
MAX_PROMPT = 223  # previous text with its <|startofprev|>


@dataclass(frozen=True, slots=True)
class Labels:
    """Decoder inputs and targets of one window, of the same length."""

    inputs: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def target_tokens(self) -> int:
        """How many tokens carry loss."""
        return sum(target != IGNORE for target in self.targets)


def label(
    window: Window, vocabulary: Vocabulary, *, timestamps: bool, prompted: bool, language_loss: bool = True
) -> Labels:
    """The label sequence of a window.

    `prompted` puts the text before the window in front, where there is any. A cue cut by the window's end
    shows as a lone start timestamp before the end of text (`text<|e|><|s|><|endoftext|>`).

    Raises:
        InputError: the model has no token for the window's language or task.
        ValueError: the sequence exceeds the decoder's 448 positions; packing within `Limits` prevents it.
    """
    prompt = _prompt(window, vocabulary) if prompted else []
    prefix = vocabulary.prefix(window.language, window.task, timestamps=timestamps)
    content = [token for piece in window.pieces for token in _content(piece, vocabulary, timestamps=timestamps)]
    sequence = [*prompt, *prefix, *content, vocabulary.end]
    if len(sequence) - 1 > MAX_INPUTS:
        raise ValueError(f"{len(sequence) - 1} tokens in a window, the decoder takes {MAX_INPUTS}")
    silent = len(prompt) + len(prefix)  # tokens before the text
    targets = [IGNORE] * (silent - 1) + sequence[silent:]
    if language_loss and vocabulary.multilingual:
        targets[len(prompt)] = prefix[1]  # asked for right after the start token
    return Labels(tuple(sequence[:-1]), tuple(targets))


def _prompt(window: Window, vocabulary: Vocabulary) -> list[int]:
    texts = window.pieces[0].previous
    tokens = [token for text in texts for token in vocabulary.encode(text, window.written_in)]
    return [vocabulary.previous, *tokens[-(MAX_PROMPT - 1) :]] if tokens else []


def _content(piece: Piece, vocabulary: Vocabulary, *, timestamps: bool) -> Iterator[int]:
    step = round(piece.offset_s / GRID_S)  # nothing starts before what stands before it
    for segment in piece.segments:
        text = vocabulary.encode(segment.text, segment.written_in)
        if not timestamps:
            yield from text
            continue
        begin, step = _span(segment, piece, step)
        yield vocabulary.timestamp(begin * GRID_S)
        yield from text
        yield vocabulary.timestamp(step * GRID_S)
    if timestamps and piece.cut is not None:
        yield vocabulary.timestamp(max(step, _grid(piece.cut.start_s, piece)) * GRID_S)


def _span(segment: Segment, piece: Piece, earliest: int) -> tuple[int, int]:
    """Begin and end on the grid: in order, at least one step apart, within the window."""
    last = round(30.0 / GRID_S)
    begin = min(max(earliest, _grid(segment.start_s, piece)), last - 1)
    return begin, min(max(begin + 1, _grid(segment.end_s, piece)), last)


def _grid(time_s: float, piece: Piece) -> int:
    return round(piece.at_s(time_s) / GRID_S)
