from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from support.trained import trained
from support.workflow import SHORT_WORDS, Computer, make_computer


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computer]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_computer(tmp_path_factory.mktemp("laptop"), patch)


@pytest.fixture
def edgeopt(laptop: Computer, monkeypatch: pytest.MonkeyPatch) -> Computer:
    """The laptop, again in front of what every test sets by itself."""
    monkeypatch.setenv("EDGEOPT_HOME", str(laptop.edgeopt_home))
    return laptop


@pytest.fixture(scope="session")
def digits_words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Words of a deployment of a network that was trained on digits, with samples that it never saw."""
    task, samples = trained("residual"), tmp_path_factory.mktemp("digits") / "samples.npz"
    with np.load(task.evaluation) as held:
        np.savez(samples, image=held["input:image"][:, 0], labels=held["labels"][:, 0])
    words = ["deploy", str(task.network), "--data", str(samples), "--app", "digits", *SHORT_WORDS]
    words[words.index("--evaluation") + 1] = "64"
    return words
