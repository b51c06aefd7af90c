"""A training that was killed goes on exactly where it was; checkpoints that do not belong to it are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from support.training import digits, same, small, weights_file

OPTIONS = TrainingOptions(epochs=3, batch_size=16, patience=9)
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from edgeopt.training import loop
from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from support.training import digits, small
from test_checkpoint import OPTIONS

folder, kill_at, every = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1)
loop._CHECKPOINT_SECONDS = every
done = []

def step(network, number, steps):
    done.append(number)
    if len(done) == 1:
        print(number, file=open(folder / "begun", "a"))
    if number == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

network = small()
report = train(network, digits(250), supervised(), OPTIONS, seed=2, checkpoint=folder / "checkpoint", after_step=step)
torch.save(network.state_dict(), folder / "weights.pt")
print(done[0], done[-1], report.losses, report.validation)
"""


def _run(folder: Path, kill_at: int, every: float) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(folder / "script.py"), str(folder), str(kill_at), str(every)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_killed_and_begun_again_it_gives_the_bytes_of_one_that_ran_through(tmp_path: Path) -> None:
    network = small()
    report = train(network, digits(250), supervised(), OPTIONS, seed=2)  # 14 steps an epoch
    assert _run(tmp_path, kill_at=22, every=30.0).returncode == -signal.SIGKILL  # leaves the end of the first epoch
    assert _run(tmp_path, kill_at=33, every=0.0).returncode == -signal.SIGKILL  # leaves step 32
    assert not (tmp_path / "weights.pt").exists()
    again = _run(tmp_path, kill_at=0, every=0.0)
    assert again.stdout.strip() == f"33 42 {report.losses} {report.validation}", again.stderr
    assert (tmp_path / "begun").read_text().split() == ["1", "15", "33"]
    found = weights_file(tmp_path / "weights.pt")
    assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())


def _steps(checkpoint: Path, network: nn.Module, options: TrainingOptions = OPTIONS, seed: int = 2) -> int:
    heard: list[int] = []
    train(
        network,
        digits(100),
        supervised(),
        options,
        seed=seed,
        checkpoint=checkpoint,
        after_step=lambda _, step, __: heard.append(step),
    )
    return len(heard)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, second = small(), small()
    assert _steps(tmp_path / "c", first) == 18
    assert _steps(tmp_path / "c", second) == 0
    assert same(first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    _steps(tmp_path / "c", small())
    assert _steps(tmp_path / "c", small(seed=1)) == 18
    assert _steps(tmp_path / "c", small(seed=1), seed=3) == 18
    assert _steps(tmp_path / "c", small(seed=1), TrainingOptions(epochs=1, batch_size=16), seed=3) == 6


@pytest.mark.parametrize("content", [b"", b"nonsense", "cut"])
def test_a_damaged_checkpoint_is_not_used(tmp_path: Path, content: bytes | str) -> None:
    _steps(tmp_path / "c", small())
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    assert _steps(tmp_path / "c", small()) == 18


def test_one_that_ran_out_of_time_goes_on_with_more(tmp_path: Path) -> None:
    network, through = small(), small()
    short = TrainingOptions(epochs=2, max_seconds=1e-6)
    train(network, digits(100), supervised(), short, seed=0, checkpoint=tmp_path / "c")
    network = small()
    train(network, digits(100), supervised(), TrainingOptions(epochs=2), seed=0, checkpoint=tmp_path / "c")
    report = train(through, digits(100), supervised(), TrainingOptions(epochs=2), seed=0)
    assert same(network, through)
    assert report.notes == ()
