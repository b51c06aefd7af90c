"""A training that runs out of memory goes on with smaller portions, or says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from support.training import digits, weights_file

SCRIPT = """
import resource, sys
import torch
from edgeopt.errors import PassError
from test_memory import Wide, trained_alone

torch.set_num_threads(1)
trained_alone(Wide(1))  # loads what torch loads late
width, limit = int(sys.argv[1]), int(sys.argv[2]) << 20
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
network = Wide(width)
try:
    print(trained_alone(network))
    torch.save(network.state_dict(), sys.argv[3])
except PassError as error:
    print(error)
"""


class Wide(nn.Module):
    """Needs 256 × `width` bytes a sample, several times over, for what a narrow network could compute."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.head = width, nn.Linear(64, 10)
        with torch.no_grad():
            self.head.weight.fill_(0.01)
            self.head.bias.zero_()

    def forward(self, image: Tensor) -> Tensor:
        x = image.flatten(1).repeat(1, self.width)
        return self.head((x * x).view(-1, self.width, 64).mean(1))


def trained_alone(network: nn.Module) -> tuple[str, ...]:
    """Train one epoch of batches of 64; the notes."""
    options = TrainingOptions(epochs=1, batch_size=64, learning_rate=0.1, optimiser="sgd", validation_share=0.0)
    return train(network, digits(70), supervised(), options, seed=0).notes


def _limited(folder: Path, width: int, mebibytes: int) -> str:
    (folder / "script.py").write_text(SCRIPT)
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    command = [sys.executable, folder / "script.py", str(width), str(mebibytes), folder / "weights.pt"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def test_portions_are_halved_until_they_fit_and_give_the_same_gradients(tmp_path: Path) -> None:
    network = Wide(4096)
    assert trained_alone(network) == ()
    told = _limited(tmp_path, width=4096, mebibytes=100)  # a batch of 64 has 64 MiB a tensor
    found = re.fullmatch(r"\('memory ran out: batches went through the network (\d+) samples at a time',\)\n", told)
    assert found, told
    assert 1 <= int(found[1]) < 64
    parts = weights_file(tmp_path / "weights.pt")
    assert all(
        torch.allclose(tensor, parts[name], rtol=1e-4, atol=1e-6) for name, tensor in network.state_dict().items()
    )


def test_what_fits_in_no_portion_is_one_sentence(tmp_path: Path) -> None:
    told = _limited(tmp_path, width=1 << 18, mebibytes=100)  # a sample has 64 MiB a tensor
    assert told.startswith("memory ran out in training with one sample at once. Train on a machine with more memory")
