"""Log-mel features against transformers' own extractor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from whispertune.windows.features import WINDOW_SAMPLES, log_mel


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_same_numbers_as_transformers(n_mels: int) -> None:
    rng = np.random.default_rng(0)
    speech = rng.normal(0, 0.1, 7 * 16_000).astype(np.float32)
    quiet = np.zeros(100, dtype=np.float32)
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(
        [speech, quiet], sampling_rate=16_000, return_tensors="pt"
    ).input_features
    audio = torch.zeros(2, WINDOW_SAMPLES)
    audio[0, : len(speech)] = torch.from_numpy(speech)
    ours = log_mel(audio, n_mels)
    assert ours.shape == (2, n_mels, 3000)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
