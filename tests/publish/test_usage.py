"""The programs of a card, as texts; tests/runtimes runs them as they stand there."""

from __future__ import annotations

import pytest

from whispertune.publish.exported import Exported
from whispertune.publish.usage import NEEDS, PROGRAMS, TITLES, Spoken, remark, usage

REPOSITORY = "me/whisper-noise"


def of(format_: str, quantization: str = "float32") -> Exported:
    return Exported(format_, quantization, format_, 1, "some 1.0", None)


@pytest.mark.parametrize("format_", PROGRAMS)
def test_it_is_a_program_that_names_language_and_task(format_: str) -> None:
    program = usage(
        of(format_, "q5_0" if format_ == "ggml" else "float32"),
        REPOSITORY,
        Spoken("sv", "translate", True, True),
        base="a/b",
    )
    assert program is not None
    compile(program, "card", "exec")
    assert 'language="sv"' in program
    assert 'task="translate"' in program or "translate=True" in program
    assert "$" not in program
    assert format_ in TITLES
    assert format_ in NEEDS


def test_a_model_for_english_alone_is_told_no_language() -> None:
    exported = Exported("transformers", "float32", "", 1, "transformers 5.23.0", None)
    program = usage(
        exported, REPOSITORY, Spoken("en", "transcribe", multilingual=False, suppress_blank=True), base=None
    )
    assert program is not None
    assert "language" not in program
    spoken = Spoken(None, "translate", multilingual=True, suppress_blank=True)
    program = usage(exported, REPOSITORY, spoken, base=None)
    assert program is not None
    assert "language=" not in program
    assert 'task="translate"' in program


def test_whisper_cpps_own_program() -> None:
    told = remark(of("ggml", "q5_0"), Spoken("sv", "translate", multilingual=True, suppress_blank=True))
    assert told is not None
    assert "whisper-cli -m ggml-model-q5_0.bin -l sv -tr -nt" in told
    assert "suppress_blank" not in told
    bengali = remark(of("ggml", "q5_0"), Spoken("bn", "transcribe", multilingual=True, suppress_blank=False))
    assert bengali is not None
    assert "cannot be told `suppress_blank=False`" in bengali


def test_onnx_has_none() -> None:
    assert (
        usage(of("onnx"), REPOSITORY, Spoken("sv", "transcribe", multilingual=True, suppress_blank=True), base=None)
        is None
    )
