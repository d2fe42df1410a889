"""TensorRT's Python API over ONNX Runtime on the CPU: what the real one does with a graph, on this machine's memory.

Its builder keeps the graph and the shape ranges as the "engine"; its contexts refuse shapes outside the active range
and tensors without an address, as the real ones do, and then run the graph on the memory at those addresses.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

_TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64", "tensor(int32)": "INT32"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32}


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity

    def __init__(self) -> None: ...


class Dims(tuple[int, ...]):
    def __new__(cls, shape: Sequence[int] = ()) -> Dims:
        return super().__new__(cls, shape)


DataType = enum.Enum("DataType", ["FLOAT", "HALF", "BF16", "INT32", "INT64"])
TensorIOMode = enum.Enum("TensorIOMode", ["INPUT", "OUTPUT"])
BuilderFlag = enum.Enum("BuilderFlag", ["TF32"])
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", ["EXPLICIT_BATCH", "STRONGLY_TYPED"])
ExecutionContextAllocationStrategy = enum.Enum("ExecutionContextAllocationStrategy", ["ON_PROFILE_CHANGE"])


class Network:
    graph = b""

    @property
    def num_inputs(self) -> int:
        return len(_session(self.graph).get_inputs())

    def get_input(self, number: int) -> Any:
        return _session(self.graph).get_inputs()[number]


class OnnxParser:
    def __init__(self, network: Network, log: Any) -> None:
        self.network, self.errors = network, []  # type: ignore[var-annotated]

    def parse(self, model: bytes) -> bool:
        try:
            _session(model)
        except Exception as error:
            self.errors.append(str(error))
            return False
        self.network.graph = model
        return True

    def parse_from_file(self, model: str) -> bool:
        return self.parse(Path(model).read_bytes())

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, number: int) -> str:
        return self.errors[number]


class OptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Dims]] = {}

    def set_shape(self, name: str, least: Dims, best: Dims, most: Dims) -> None:
        assert all(a <= b <= c for a, b, c in zip(least, best, most, strict=True))
        self.shapes[name] = [least, best, most]


class BuilderConfig:
    def __init__(self) -> None:
        self.profiles: list[OptimizationProfile] = []
        self.cleared: list[Any] = []

    def clear_flag(self, flag: Any) -> None:
        self.cleared.append(flag)

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    built = 0
    fails_with = ""

    def __init__(self, log: Any) -> None:
        self.log = log

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return Network()

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
        if Builder.fails_with:
            self.log.log(Severity.ERROR, Builder.fails_with)
            return None
        assert config.cleared == [BuilderFlag.TF32]
        Builder.built += 1
        shapes = [
            {name: [list(dims) for dims in three] for name, three in one.shapes.items()} for one in config.profiles
        ]
        return json.dumps(shapes).encode() + b"\n" + network.graph


class Runtime:
    def __init__(self, log: Any) -> None:
        self.log = log

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        shapes, _, graph = data.partition(b"\n")
        return Engine(json.loads(shapes), graph, self.log)


class Engine:
    def __init__(self, shapes: list[dict[str, Any]], graph: bytes, log: Any) -> None:
        self.shapes, self.session, self.log = shapes, _session(graph), log
        self.nodes = {node.name: node for node in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [node.name for node in self.session.get_inputs()]

    @property
    def num_io_tensors(self) -> int:
        return len(self.nodes)

    def get_tensor_name(self, number: int) -> str:
        return list(self.nodes)[number]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[_TYPES[self.nodes[name].type]]

    def create_execution_context(self, strategy: Any) -> Context:
        assert strategy is ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        return Context(self)


class Context:
    most_tokens = 10**9
    """A call of more tokens has no memory."""
    calls: list[tuple[int, tuple[int, ...]]] = []  # noqa: RUF012 - reset by the tests

    def __init__(self, engine: Engine) -> None:
        self.engine, self.active_optimization_profile = engine, 0
        self.given: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, number: int, stream: int) -> bool:
        self.active_optimization_profile, self.given = number, {}
        return number < len(self.engine.shapes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.shapes[self.active_optimization_profile][name]
        self.given[name] = shape
        return all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        sizes: dict[Any, int] = {}
        for given, shape in self.given.items():
            sizes |= dict(zip(self.engine.nodes[given].shape, shape, strict=True))
        return Dims([size if isinstance(size, int) else sizes[size] for size in self.engine.nodes[name].shape])

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self.addresses) == set(self.engine.nodes), "every input and output needs an address"
        shape = next(iter(self.given.values()))
        Context.calls.append((self.active_optimization_profile, shape))
        if shape[0] * shape[1] > Context.most_tokens:
            self.engine.log.log(Severity.ERROR, "[resize.cpp] Error Code 2: OutOfMemory (Requested size was 9 bytes.)")
            return False
        feed = {name: self._at(name, shape).copy() for name, shape in self.given.items()}
        outputs = [name for name in self.engine.nodes if name not in self.engine.inputs]
        for name, value in zip(outputs, self.engine.session.run(outputs, feed), strict=True):
            self._at(name, value.shape)[...] = value
        self.addresses.clear()
        return True

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        dtype = np.dtype(_NUMPY[self.engine.get_tensor_dtype(name).name])
        memory = (ctypes.c_byte * (int(np.prod(shape)) * dtype.itemsize)).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


def _session(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def module() -> ModuleType:
    """What ``import tensorrt`` gives in these tests."""
    made = ModuleType("tensorrt")
    names = (
        "ILogger",
        "Dims",
        "DataType",
        "TensorIOMode",
        "BuilderFlag",
        "NetworkDefinitionCreationFlag",
        "OnnxParser",
    )
    for name in (*names, "ExecutionContextAllocationStrategy", "Builder", "Runtime"):
        setattr(made, name, globals()[name])
    made.__dict__["__version__"] = "10.0.0"
    return made
