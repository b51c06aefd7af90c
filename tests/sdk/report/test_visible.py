from hypothesis import given
from hypothesis import strategies as st

from edgeopt.report.visible import visible


def test_terminal_escapes_bidi_marks_and_line_breaks_are_written_out() -> None:
    assert visible("a\x1b[2J\u202eb\r\nc\x9b\u2028") == r"a\x1b[2J\u202eb\r\nc\x9b\u2028"


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    assert visible("Jürgens Gerät 4 °C, 检测") == "Jürgens Gerät 4 °C, 检测"


def test_long_text_is_cut() -> None:
    assert visible("x" * 100, 10) == "x" * 9 + "…"


@given(st.text(alphabet=st.characters(codec=None)))
def test_what_is_shown_can_always_be_printed(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable() or all(
        character.isprintable() or character == "\u3000" or character.isspace() for character in shown
    )
    shown.encode("utf-8")
    assert "\n" not in shown
    assert "\x1b" not in shown
