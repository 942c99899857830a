"""What stands between the measured and the possible: operations counted, over the rate of this machine's matrix unit.

rate = matrix_rate("cpu", torch.bfloat16)     # operations a second
counted = operations(lambda: fine_tune(...))  # multiplications and additions, of all products of matrices
floor_s = counted / rate
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Size = tuple[int, ...]

REPEATS = 5
SIZES = ((4096, 4096, 4096), (6000, 2048, 512), (6000, 512, 2048))  # the best of them counts


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second in the largest products that a Whisper makes; the best of several."""
    import torch

    best = 0.0
    for rows, inner, columns in SIZES:
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(inner, columns, device=device, dtype=dtype)
        for _ in range(REPEATS):
            _wait(device)
            start = time.perf_counter()
            _ = left @ right
            _wait(device)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    return best


def operations(work: Callable[[], object]) -> int:
    """Multiplications and additions in the products of matrices that `work` makes in this thread."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def attention(query: Size, key: Size, value: Size, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    def attention_backward(gradient: Size, query: Size, key: Size, value: Size, *_: Any, **__: Any) -> int:
        return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]

    cpu = {  # the library counts attention on a GPU only
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=cpu) as counter:
        work()
    return int(counter.get_total_flops())


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
