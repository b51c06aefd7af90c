"""Trains the digit network on 1000 pictures and writes its weights beside it."""

from __future__ import annotations

import sys
import time

import torch
from digits import WEIGHTS, DigitNet, split
from torch import nn

EPOCHS = 8
BATCH = 50


def main() -> None:
    """Train with a one-cycle schedule and small random shifts; print the held-out accuracy."""
    torch.manual_seed(0)
    (pictures, labels), (held_out, held_out_labels) = split()
    x, y = torch.from_numpy(pictures), torch.from_numpy(labels)
    network = DigitNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    started = time.monotonic()
    for _ in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(x)).split(BATCH):
            shift = torch.randint(-1, 2, (2,)).tolist()
            loss = nn.functional.cross_entropy(network(x[batch].roll(shift, (2, 3))), y[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        predicted = network(torch.from_numpy(held_out)).argmax(1)
    right = (predicted == torch.from_numpy(held_out_labels)).float().mean().item()
    torch.save(network.state_dict(), WEIGHTS)
    seconds = time.monotonic() - started
    sys.stdout.write(f"trained in {seconds:.0f} s; {right:.2%} of {len(held_out)} held-out digits right\n")


if __name__ == "__main__":
    main()
