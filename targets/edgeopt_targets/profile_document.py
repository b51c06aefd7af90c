"""What may stand in a profile's file: the model behind its JSON Schema and behind `edgeopt profiles check`.

A file may say less than `core.profile.Profile` holds, since it may extend another; hence every field but the name is
optional here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Precision = Literal["float32", "float16", "bfloat16", "int8", "int4"]
RuntimeName = Literal[
    "onnxruntime", "litert", "tflite_runtime", "tensorrt", "openvino", "executorch", "ncnn", "mnn"
]  # fmt: skip
Level = Literal["disabled", "basic", "extended", "all"]
Count = Annotated[int, Field(ge=1)]


def _kind(value: Any) -> str:
    return "word" if isinstance(value, str) else "other"


class _Strict(BaseModel):
    """Takes no field that it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)


class PassDocument(_Strict):
    """One pass of a recipe."""

    name: str = Field(description="Name of a pass; edgeopt passes lists them.")
    options: dict[str, Any] = Field(default={}, description="Options that differ from the pass's defaults.")


class RecipeDocument(_Strict):
    """A recipe: passes in order."""

    name: str = Field(min_length=1, description="What the variant is called in tables.")
    passes: list[PassDocument] = Field(description="First to last.")
    precision: Precision = Field(default="float32", description="What the numbers are in the end.")
    recover: bool = Field(default=False, description="Layers may return to float where the accuracy budget is missed.")


class ClueDocument(_Strict):
    """A way to know a board; everything that is given must fit."""

    model: str | None = Field(default=None, description="Shell pattern of the device tree's model.")
    compatible: str | None = Field(default=None, description="Shell pattern of a compatible name of the device tree.")
    l4t: str | None = Field(default=None, description="Shell pattern of NVIDIA's release of Linux, such as 36.*.")
    memory_gib: tuple[float, float] | None = Field(
        default=None, strict=False, description="Least and largest memory in GiB, the second excluded."
    )


class HardwareDocument(_Strict):
    """What is inside the board."""

    soc: str | None = Field(default=None, description="System on chip, or CPU families.")
    cpu: str | None = Field(default=None, description="Kind and number of cores.")
    isa: list[str] | None = Field(default=None, description="Flags of /proc/cpuinfo that matter to inference.")
    memory_gib: list[float] | None = Field(default=None, description="Sizes that it is sold with.")
    bandwidth_gb_per_second: float | None = Field(default=None, ge=0, description="Peak of the memory.")
    memcpy_mb_per_second: float | None = Field(default=None, ge=0, description="Copying by one thread, measured.")
    gpu: str | None = Field(default=None, description="Graphics processor that can run networks.")
    compute_capability: str | None = Field(default=None, pattern=r"^(\d+\.\d)?$", description="Of an NVIDIA GPU.")
    gpu_precisions: list[Precision] | None = Field(default=None, description="What the GPU computes fast in.")
    dla_cores: int | None = Field(default=None, ge=0, description="NVIDIA deep-learning accelerators.")


class LimitsDocument(_Strict):
    """What must not be exceeded."""

    throttle_celsius: float | None = Field(default=None, description="Clocks fall from this temperature on.")
    page_bytes: list[Count] | None = Field(default=None, description="Sizes of a memory page of its kernels.")
    build_seconds: float | None = Field(default=None, gt=0, description="Longest time to build an engine there.")


class ProfileDocument(_Strict):
    """A hardware profile of edgeopt."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="The file's name without .yaml.")
    extends: str | None = Field(default=None, description="Profile whose fields hold where this one says nothing.")
    target: str | None = Field(default=None, description="x86, arm, jetson, generic, or an installed target.")
    description: str | None = Field(default=None, min_length=1, description="One line.")
    machine: list[str] | None = Field(default=None, description="What uname -m says; empty: any.")
    bits: Literal[0, 32, 64] | None = Field(default=None, description="Pointer size of the userland; 0: any.")
    clues: list[ClueDocument] | None = Field(default=None, description="Ways to know the board; one must fit.")
    isa_all: list[str] | None = Field(default=None, description="Flags that the device must have.")
    isa_any: list[str] | None = Field(default=None, description="Flags of which it must have one.")
    isa_none: list[str] | None = Field(default=None, description="Flags that it must not have.")
    generic: bool | None = Field(default=None, description="Serves boards that no other profile knows.")
    runtimes: list[RuntimeName] | None = Field(default=None, min_length=1, description="Engines, best guess first.")
    precisions: list[Precision] | None = Field(default=None, min_length=1, description="Precisions worth trying.")
    recipes: (
        list[
            Annotated[Annotated[str, Tag("word")] | Annotated[RecipeDocument, Tag("other")], Discriminator(_kind)]
        ] | None
    ) = Field(default=None, description="What to try, in order; a name alone: one of a parent.")  # fmt: skip
    threads: (
        list[
            Annotated[
                Annotated[Literal["physical", "logical"], Tag("word")] | Annotated[Count, Tag("other")],
                Discriminator(_kind),
            ]
        ] | None
    ) = Field(default=None, min_length=1, description="Thread counts to try.")  # fmt: skip
    graph_optimisation: list[Level] | None = Field(default=None, min_length=1, description="ONNX Runtime's levels.")
    sessions: list[Count] | None = Field(default=None, min_length=1, description="Numbers of sessions to try.")
    inter_op: list[Count] | None = Field(default=None, min_length=1, description="Inter-op threads for finalists.")
    max_start_celsius: float | None = Field(default=None, description="A measurement waits for this temperature.")
    hardware: HardwareDocument | None = Field(default=None, description="What is inside the board.")
    limits: LimitsDocument | None = Field(default=None, description="What must not be exceeded.")
    sources: dict[str, str] | None = Field(default=None, description="Where facts come from, by the field's name.")


TAGS = frozenset({"word", "other"})
"""Parts of a pydantic place that are branches of a union and not places in the file."""


def schema_text() -> str:
    """The JSON Schema of profile files, as `profiles/schema.json` has it."""
    import json

    schema = ProfileDocument.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"
