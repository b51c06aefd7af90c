"""Conversion of ONNX, the form that every pass works on, to the files of other runtimes.

Each converter is a pass, the last of a recipe. Its tool runs in a child process with a deadline, in an environment of
its own where the user's has not got it: converters segfault, hang, and pin what others need newer.
"""

from pathlib import Path

RECIPES = Path(__file__).with_name("recipes.yaml")
"""The recipes that end in a conversion."""
