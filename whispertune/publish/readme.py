"""The README.md of an export folder: which model it is, whose, in what form, how it was verified, how it is loaded.

text = readme(report, "my-run", origin_of("my-run"), spoken)

A publication has none of these: its card says the same of all its forms.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from whispertune.model.formats import ggml, openai
from whispertune.model.naming import public_name
from whispertune.publish.export import ExportReport
from whispertune.publish.origin import UNKNOWN, Origin
from whispertune.publish.usage import NEVER_FIRST, Spoken, whisper_cli

LOADED: Final = {  # {file}: of formats that are one file
    "ct2": '`faster_whisper.WhisperModel("this folder")`, in Python',
    "transformers": '`transformers.WhisperForConditionalGeneration.from_pretrained("this folder")`, in Python',
    "openai": '`whisper.load_model("{file}")`, in Python with openai-whisper',
    "ggml": "`{command}`, or in Python by pywhispercpp with the same language and suppress_regex",
    "onnx": "onnxruntime: `encoder_model.onnx`, `decoder_model.onnx` for a prompt, then `decoder_with_past_model.onnx`",
    "adapter": '`peft.PeftModel.from_pretrained(base_model, "this folder")`, in Python',
}


def readme(report: ExportReport, model: str, base: Origin, spoken: Spoken) -> str:
    """What stands in an export of `model`, whose base model this is, and which writes what is `spoken`."""
    found = report.comparison
    verified = f"in {report.runtime}: {found.told(report.tolerance)}" if found else "no: not verified (--no-verify)"
    origin = base.told(lambda hub: f"{hub} (https://huggingface.co/{hub})", " (its origin is not known here)")
    lines = [
        f"# {public_name(model)}",
        "",
        f"- Base model: {origin}",
        f"- Licence of the base model: {base.licence or UNKNOWN}",
        f"- Format: {report.format}, {report.quantization}",
        f"- Written by: Whispertune {version('whispertune')}",
        f"- Verified: {verified}",
        f"- Loaded by: {_loaded(report, spoken)}",
    ]
    return "\n".join(lines) + "\n"


def _loaded(report: ExportReport, spoken: Spoken) -> str:
    if report.format == "ggml":
        blank = "" if spoken.suppress_blank else NEVER_FIRST
        return LOADED["ggml"].format(command=whisper_cli(ggml.FILES[report.quantization], spoken)) + blank
    return LOADED[report.format].format(file=openai.FILE)
