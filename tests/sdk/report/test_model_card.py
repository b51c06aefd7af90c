"""The model card says what the report says, and nothing in it is taken for markup that is not ours."""

from __future__ import annotations

from dataclasses import replace

from edgeopt.report.model_card import render_card
from support.records import hostile_record, infeasible_record, run_record


def test_it_says_what_it_is_where_it_was_measured_what_it_loses_and_how_to_make_it_again() -> None:
    card = render_card(run_record())
    for part in (
        "# digits for pi5",
        "3.11× faster than the original",
        "| top1 | 97.1 % | −0.2 points against the original |",
        "| passes | simplify \\> quantize\\_static |",
        "Raspberry Pi 5 Model B Rev 1.0",
        "540 samples to evaluate",
        "```sh\nedgeopt deploy digits.onnx --data digits.npz --target pi5 --max-drop 1%\n```",
    ):
        assert part in card


def test_a_run_in_which_nothing_met_the_budget_has_a_card_of_the_nearest_miss() -> None:
    card = render_card(infeasible_record())
    assert "Nothing meets the budget" in card
    assert "| variant | int8-entropy |" in card


def test_a_run_that_has_not_chosen_says_so_and_has_no_figures() -> None:
    card = render_card(replace(run_record(), selection=None, state="failed"))
    assert "This run failed before it could choose." in card
    assert "## Figures" not in card


def test_what_weakens_the_answer_is_in_it() -> None:
    record = run_record()
    generated = replace(record, data=replace(record.data, generated=True))
    assert "nothing about accuracy on real data" in render_card(generated)


def test_hostile_text_stays_text() -> None:
    record = hostile_record()
    card = render_card(replace(record, command=f"```\n# owned\n{record.command}"))
    outside, _, command = card.partition("## How to make it again")
    assert "<" not in outside.replace("\\<", "")
    assert "\u202e" not in card
    assert "\x1b" not in card
    assert command.count("```") == 2  # nothing in the command ends the block
    assert card.count("\n# ") == 0
