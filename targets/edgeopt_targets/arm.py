"""ARM boards: Raspberry Pis and others, with a 64-bit or a 32-bit userland.

What decides there is the CPU's arithmetic. Cortex-A53 and A72 have neither 8-bit dot products nor half-precision
arithmetic, so 8 bits gain clearly; Cortex-A76 has both, float is fast, and 8 bits may even lose (ncnn's benchmark page:
a Raspberry Pi 5 with one thread, ResNet-18 29.5 ms in half precision and 36.3 ms in 8 bits). Nothing saturates, so
weights keep 8 bits. A 32-bit userland has wheels of few runtimes, whatever the kernel.
"""

from __future__ import annotations

from typing import ClassVar

from edgeopt_targets.board import Board


class Arm(Board):
    """The target of ``raspberry-pi-*``, ``aarch64`` and ``armv7``."""

    name: ClassVar[str] = "arm"
