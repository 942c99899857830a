"""How each published form of a model is decoded: programs for the card, with the arguments of the verification.

spoken = Spoken("sv", "transcribe", multilingual=True, suppress_blank=True)
print(usage(exported, "me/whisper-small-sv", spoken, base="openai/whisper-small"))

The programs make the calls that the runtimes in publish/runtimes make; tests run them as they stand in a card.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Final

from whispertune.decode.engines import MAX_NEW_TOKENS
from whispertune.model.formats import ggml, openai
from whispertune.publish.exported import Exported

GENERATE: Final = """
samples, rate = soundfile.read("speech.wav", dtype="float32")  # mono, 16 kHz, up to 30 s
inputs = processor(samples, sampling_rate=rate, return_tensors="pt")
settings = model.generation_config
times = range(settings.no_timestamps_token_id + 1, model.config.vocab_size)  # none in this text
tokens = model.generate(
    inputs.input_features,
    suppress_tokens=[*(settings.suppress_tokens or []), *times],
    num_beams=1,
    max_new_tokens=$most,
    return_timestamps=False,$spoken
)
text = processor.batch_decode(tokens, skip_special_tokens=True)[0]
print(text)
"""

TRANSFORMERS: Final = Template(
    """\
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

processor = WhisperProcessor.from_pretrained("$repository"$subfolder)
model = WhisperForConditionalGeneration.from_pretrained("$repository"$subfolder, dtype=torch.float32)
"""
    + GENERATE
)

ADAPTER: Final = Template(
    """\
import soundfile
import torch
from peft import PeftModel
from transformers import GenerationConfig, WhisperForConditionalGeneration, WhisperProcessor

processor = WhisperProcessor.from_pretrained("$repository"$subfolder)
model = WhisperForConditionalGeneration.from_pretrained("$base", dtype=torch.float32)
model.generation_config = GenerationConfig.from_pretrained("$repository"$subfolder)
model = PeftModel.from_pretrained(model, "$repository"$subfolder)
"""
    + GENERATE
)

CT2: Final = Template("""\
import json
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel, decode_audio
from huggingface_hub import snapshot_download

folder = Path(snapshot_download("$repository", allow_patterns="$folder/*"), "$folder")
model = WhisperModel(str(folder))

samples = decode_audio("speech.wav")
samples = np.pad(samples, (0, max(0, 480_000 - len(samples))))  # silence up to 30 s, as the model was trained
settings = json.loads(Path(folder, "generation_config.json").read_text())
times = range(settings["no_timestamps_token_id"] + 1, model.hf_tokenizer.get_vocab_size())
segments, _ = model.transcribe(
    samples,
    language=$language,
    task="$task",
    beam_size=1,
    temperature=0.0,
    without_timestamps=True,
    condition_on_previous_text=False,
    no_speech_threshold=None,
    log_prob_threshold=None,
    compression_ratio_threshold=None,
    suppress_tokens=[*settings["suppress_tokens"], *times],  # its own list would ban signs that this model writes
)
text = "".join(segment.text for segment in segments)
print(text)
""")

GGML: Final = Template("""\
from pathlib import Path

import numpy as np
import soundfile
from huggingface_hub import hf_hub_download
from pywhispercpp.model import Model

left_out = Path(hf_hub_download("$repository", "$folder/suppress_regex.txt")).read_text()
model = Model(
    hf_hub_download("$repository", "$folder/$file"),
    context_params={"flash_attn": False},  # on a CPU it reads past the end of the audio
    language=$language,
    translate=$translate,
    greedy={"best_of": 1},
    no_context=True,
    no_timestamps=True,
    temperature_inc=0.0,
    no_speech_thold=2.0,
    suppress_blank=$suppress_blank,
    suppress_regex=left_out,  # what the other runtimes never write either
    print_progress=False,
)
samples, _ = soundfile.read("speech.wav", dtype="float32")  # mono, 16 kHz
samples = np.pad(samples, (0, max(0, 480_000 - len(samples))))  # silence up to 30 s, as the model was trained
text = " ".join(segment.text for segment in model.transcribe(samples))
print(text)
""")

OPENAI: Final = Template("""\
import json

import soundfile
import whisper
from huggingface_hub import hf_hub_download

model = whisper.load_model(hf_hub_download("$repository", "$folder/$file"), device="cpu")
with open(hf_hub_download("$repository", "$folder/generation_config.json")) as file:
    settings = json.load(file)

samples, _ = soundfile.read("speech.wav", dtype="float32")  # mono, 16 kHz, up to 30 s
mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples), n_mels=model.dims.n_mels)
times = range(settings["no_timestamps_token_id"] + 1, model.dims.n_vocab)  # none in this text
options = whisper.DecodingOptions(
    language=$language,
    task="$task",
    temperature=0.0,
    without_timestamps=True,
    suppress_blank=$suppress_blank,
    suppress_tokens=[*settings["suppress_tokens"], *times],  # its own list would ban signs that this model writes
    fp16=False,
)
text = whisper.decode(model, mel, options).text
print(text)
""")

NEVER_FIRST: Final = (
    ". It cannot be told `suppress_blank=False`: a text that this model begins with a token for a space alone, before "
    "a letter of several tokens, comes out otherwise"
)
ADAPTER_FORMAT: Final = "adapter"
PROGRAMS: Final = {"transformers": TRANSFORMERS, "ct2": CT2, "ggml": GGML, "openai": OPENAI, "adapter": ADAPTER}
TITLES: Final = {
    "transformers": "transformers",
    "ct2": "faster-whisper",
    "ggml": "whisper.cpp",
    "openai": "openai-whisper",
    "adapter": "peft",
}
NEEDS: Final = {  # for pip install
    "transformers": "transformers torch soundfile",
    "ct2": "faster-whisper",
    "ggml": "pywhispercpp soundfile huggingface_hub",
    "openai": "openai-whisper soundfile huggingface_hub",
    "adapter": "peft transformers torch soundfile",
}


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a model is to write down."""

    language: str | None  # None: it finds out
    task: str
    multilingual: bool  # English-only models are told neither
    suppress_blank: bool  # neither a space nor the end comes first


def usage(exported: Exported, repository: str, spoken: Spoken, *, base: str | None) -> str | None:
    """A program in Python that decodes speech.wav; None for formats whose runtimes have none here.

    An adapter needs its `base` on the hub: without it there is none either.
    """
    program = PROGRAMS.get(exported.format)
    if program is None or (exported.format == ADAPTER_FORMAT and base is None):
        return None
    told = ""
    if spoken.multilingual:
        named = f'\n    language="{spoken.language}",' if spoken.language else ""
        told = f'{named}\n    task="{spoken.task}",'
    return program.substitute(
        repository=repository,
        folder=exported.folder,
        subfolder=f', subfolder="{exported.folder}"' if exported.folder else "",
        file=_file(exported),
        language=f'"{spoken.language}"' if spoken.language else None,
        task=spoken.task,
        translate=spoken.task == "translate",
        suppress_blank=spoken.suppress_blank,
        most=MAX_NEW_TOKENS,
        spoken=told,
        base=base,
    )


def remark(exported: Exported, spoken: Spoken) -> str | None:
    """What else is to be known of a program."""
    if exported.format != "ggml":
        return None
    blank = "" if spoken.suppress_blank else NEVER_FIRST
    return (
        f"With whisper.cpp's own program: `{whisper_cli(_file(exported), spoken)}` (not run by the verification){blank}"
    )


def whisper_cli(file: str, spoken: Spoken) -> str:
    """The command for whisper.cpp's own program, which would take speech for English and write what the model does not.

    Its other arguments leave out what the verification leaves out: timestamps, previous text, further tries, gates.
    """
    language = (spoken.language or "auto") if spoken.multilingual else "en"
    task = " -tr" if spoken.task == "translate" else ""
    return (
        f"whisper-cli -m {file} -l {language}{task} -nt -mc 0 -bo 1 -bs 1 -nf -nth 2 "
        '-nfa --suppress-regex "$(cat suppress_regex.txt)" -f speech.wav'
    )


def _file(exported: Exported) -> str:
    if exported.format == "ggml":
        return ggml.FILES[exported.quantization]
    return openai.FILE if exported.format == "openai" else ""
