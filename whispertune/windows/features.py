"""Log-mel features: what Whisper's encoder takes.

    mel = log_mel(audio, n_mels=80)   # (batch, samples) -> (batch, n_mels, frames)

The same numbers as transformers' WhisperFeatureExtractor, on the device of the audio.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 400  # 25 ms
WINDOW_SAMPLES = 30 * SAMPLE_RATE_HZ  # 480,000 samples


@lru_cache(maxsize=4)
def _filters(n_mels: int, device: str) -> torch.Tensor:  # (n_mels, 201)
    import torch
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=1 + FFT_SAMPLES // 2,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE_HZ / 2,
        sampling_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank.T).to(device=device, dtype=torch.float32)


def at_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Samples played faster or slower, tempo and pitch together (Ko et al., 2015): float32, (samples / speed,)."""
    import soxr

    return samples if speed == 1 else np.asarray(soxr.resample(samples, SAMPLE_RATE_HZ * speed, SAMPLE_RATE_HZ))


def log_mel(audio: torch.Tensor, n_mels: int) -> torch.Tensor:
    """Log-mel spectrograms of 16 kHz audio (Radford et al., 2022).

    Args:
        audio: float32, (batch, samples), padded with zeros to a common length: 480,000 for a whole window. What is
            shorter gives the frames that it has at the start of a window with silence behind it.
        n_mels: 80, or 128 for large-v3.

    Returns:
        float32, (batch, n_mels, samples // 160), clipped to 8 below the loudest bin of each row.
    """
    import torch
    from torch.nn import functional as F

    frames = audio.shape[1] // HOP_SAMPLES
    if audio.shape[1] < WINDOW_SAMPLES:
        audio = F.pad(audio, (0, FFT_SAMPLES // 2))  # else the end of what is heard would be mirrored
    if audio.device.type != "cpu":
        return _log_mel(audio, n_mels, frames)
    rows = [
        _log_mel(audio[row : row + 1], n_mels, frames) for row in range(len(audio))
    ]  # of one all fits into the caches
    return torch.cat(rows)


def _log_mel(audio: torch.Tensor, n_mels: int, frames: int) -> torch.Tensor:
    import torch

    window = torch.hann_window(FFT_SAMPLES, device=audio.device)
    spectrum = torch.view_as_real(torch.stft(audio, FFT_SAMPLES, HOP_SAMPLES, window=window, return_complex=True))
    real, imaginary = spectrum[:, :, :frames].unbind(-1)  # (batch, 201, frames) each; what follows is past the end
    power = real.square().add_(imaginary.square())  # |x|² by way of abs() takes twice as long in all
    logs = (_filters(n_mels, str(audio.device)) @ power).clamp_(min=1e-10).log10_()
    floor = logs.amax(dim=(1, 2), keepdim=True) - 8.0
    return torch.maximum(logs, floor).add_(4.0).div_(4.0)
