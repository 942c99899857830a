"""openai-whisper, on a checkpoint.

heard = open_openai(Path("deployed")).hear(clip)   # deployed/model.pt
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from whispertune.decode.engines import best_device, suppressed_tokens
from whispertune.model.formats.openai import FILE
from whispertune.model.generation import Generation
from whispertune.publish.runtimes.heard import Clip, Heard, Package, suppresses_blank
from whispertune.windows.tokens import Vocabulary

PACKAGE: Final = Package("openai-whisper", "whisper", "openai")


class OpenaiWhisper:
    """A checkpoint as openai-whisper loads it, computed in float32.

    The tokenizer is the package's own, by the number of tokens. It takes the model's list of tokens that are never
    written. Of those that never come first it knows space and end only, both or none: both where the model
    has both.
    """

    def __init__(self, folder: Path) -> None:
        import whisper

        self.name = PACKAGE.name
        self.vocabulary = Vocabulary.from_file(folder / "tokenizer.json")
        generation = Generation.from_folder(folder)
        self.suppress = suppressed_tokens(self.vocabulary, generation)
        self.suppress_blank = suppresses_blank(self.vocabulary, generation)
        self.model = whisper.load_model(str((folder / FILE).resolve()), device=best_device())

    def hear(self, clip: Clip) -> Heard:
        import whisper

        samples = whisper.pad_or_trim(clip.samples)
        mel = whisper.log_mel_spectrogram(samples, n_mels=self.model.dims.n_mels).to(self.model.device)
        options = whisper.DecodingOptions(
            task=clip.task,
            language=clip.language,
            temperature=0.0,
            without_timestamps=True,
            suppress_tokens=list(self.suppress),  # it appends to what it is given
            suppress_blank=self.suppress_blank,
            fp16=False,
        )
        found = whisper.decode(self.model, mel, options)
        return Heard(found.text, tuple(token for token in found.tokens if token < self.vocabulary.end))


def open_openai(folder: Path) -> OpenaiWhisper:
    """A folder with `model.pt` in openai-whisper.

    Raises:
        InputError: openai-whisper is not installed.
    """
    PACKAGE.check()
    return OpenaiWhisper(folder)
