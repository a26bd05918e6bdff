"""What an export can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from lrengine.errors import InvalidRequestError

DTYPES = ("float32", "float16", "bfloat16", "int8")
OPTIMIZERS = ("none", "ort", "tensorrt")
OPSETS = range(18, 24)  # 18: ReduceMean's axes are an input; 23: the newest that the pinned ONNX Runtime runs all of
DEFAULT_OPSET = 20  # the first with Gelu, the newest that TensorRT 10 reads throughout


@dataclass(frozen=True)
class Profile:
    """A static export's sizes: nothing in its graphs varies.

    source: tokens a source is padded to; target: tokens that a target may have; beams: rows a source."""

    batch: int
    source: int
    target: int
    beams: int = 1

    @staticmethod
    def parse(text: str) -> Profile:
        """BATCH,SOURCE,TARGET or BATCH,SOURCE,TARGET,BEAMS. Raises InvalidRequestError."""
        parts = text.split(",")
        if len(parts) not in (3, 4) or not all(part.strip().isdecimal() for part in parts):
            raise InvalidRequestError(f"static: found {text!r}, expected BATCH,SOURCE,TARGET[,BEAMS]")
        return Profile(*(int(part) for part in parts))

    def __post_init__(self) -> None:
        for name in ("batch", "source", "target", "beams"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
                raise InvalidRequestError(f"static: {name} is {value!r}, expected a positive integer")


@dataclass(frozen=True)
class ExportOptions:
    """dtype: what products run in; static: a Profile, or None for dimensions that vary; opset: of ONNX; optimize:
    "none" and "tensorrt" write standard operators alone, "ort" ONNX Runtime's fused ones; calibrated: int8 has fixed
    ranges. Raises InvalidRequestError."""

    dtype: str = "float32"
    static: Profile | None = None
    opset: int = DEFAULT_OPSET
    optimize: str = "none"
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidRequestError(f"dtype: found {self.dtype!r}, expected one of {', '.join(DTYPES)}")
        if self.optimize not in OPTIMIZERS:
            raise InvalidRequestError(f"optimize: found {self.optimize!r}, expected one of {', '.join(OPTIMIZERS)}")
        if isinstance(self.opset, bool) or self.opset not in OPSETS:
            raise InvalidRequestError(f"opset: found {self.opset!r}, expected {OPSETS[0]} to {OPSETS[-1]}")
        if self.optimize == "ort" and self.dtype not in ("float32", "int8"):
            raise InvalidRequestError(
                f"optimize: ort fuses float32 and int8; a session fuses {self.dtype} for its own device: use none"
            )
        if self.calibrated and self.dtype != "int8":
            raise InvalidRequestError(f"calibration: is for dtype int8, not {self.dtype}")
        if self.dtype == "int8" and self.optimize == "tensorrt" and not self.calibrated:
            raise InvalidRequestError("calibration: TensorRT wants int8 with fixed ranges: give sources to measure")

    @property
    def for_tensorrt(self) -> bool:
        """Whether every operator must be one that TensorRT reads: ranges found in every run are ONNX Runtime's."""
        return self.optimize != "ort" and (self.dtype != "int8" or self.calibrated)
