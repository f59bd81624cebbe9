"""How each runtime opens an exported model: every setting that changes results or speed is given.

Measured reasons: OpenVINO computes in bfloat16 wherever the CPU can, unless told otherwise (2.6e-2 in place of 2.4e-6
on logits of size 1). Paddle Inference with oneDNN runs some graphs 100 times slower and crashes on others, so an export
says whether its graph suits it. onnxruntime multiplies in TF32 on GPUs unless told otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

from paddle_cait import runtime
from paddle_cait.deploy.isolation import import_openvino, silence
from paddle_cait.deploy.manifest import Artifact
from paddle_cait.errors import PaddleCaitError
from paddle_cait.versions import installed

Run = Callable[[np.ndarray], "list[np.ndarray]"]


@dataclass(frozen=True)
class Capability:
    """What an engine does on a kind of device: the formats it opens, the best first, and what it computes in."""

    engine: str
    device: str
    formats: tuple[str, ...]
    precisions: tuple[str, ...]


# The fastest first, as measured on CaiT; an automatic choice takes the first that is there.
CAPABILITIES = (
    Capability("paddle", "gpu", ("paddle",), ("fp32",)),
    Capability("onnxruntime", "gpu", ("onnx",), ("fp32",)),
    Capability("openvino", "cpu", ("openvino", "onnx"), ("fp32", "bf16", "fp16", "int8")),
    Capability("onnxruntime", "cpu", ("onnx",), ("fp32", "fp16", "int8")),
    Capability("paddle", "cpu", ("paddle",), ("fp32", "bf16")),
)
ENGINES = tuple(dict.fromkeys(known.engine for known in CAPABILITIES))
PACKAGES = {
    "paddle": ("paddlepaddle", "paddlepaddle-gpu"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "openvino": ("openvino",),
}
_NVIDIA = ("/dev/nvidiactl", "/dev/dxg")  # the driver's doors: Linux, and Linux inside Windows


@dataclass(frozen=True)
class Options:
    """What a session is asked for. ``device`` is ``cpu`` or ``gpu:N``. ``one_dnn``: whether the graph suits Paddle's
    oneDNN; None where that is not known."""

    device: str
    threads: int
    precision: str
    one_dnn: bool | None = None

    @property
    def card(self) -> int:
        return int(self.device.partition(":")[2] or 0)


def is_there(known: Capability) -> bool:
    """Whether the engine is installed and, for a GPU, sees one."""
    try:
        if importlib.util.find_spec(known.engine) is None:
            return False
    except ImportError:
        return False
    if known.device == "cpu":
        return True
    if known.engine == "paddle":
        return installed("paddlepaddle-gpu") is not None and _paddle_cards() > 0
    import onnxruntime

    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return has_cuda and any(Path(door).exists() for door in _NVIDIA)


_STATIC_SIZES = 4  # so many batch sizes are compiled for, each in memory of its own; a fifth shares one for any size


def open_runtime(engine: str, folder: Path, artifact: Artifact, options: Options) -> tuple[Run, dict[str, Any]]:
    """A function from the images of a batch to the outputs, and the settings for reports."""
    files = [folder / name for name in artifact.files]
    with _errors_of(engine, files[0]):
        run, settings = _OPEN[engine](files, options)
    version = next((found for name in PACKAGES[engine] if (found := installed(name))), "of unknown version")
    common = {"engine": engine, "version": version, "artifact": artifact.name, "precision": options.precision}
    return run, {**common, "device": options.device, "threads": options.threads, **settings}


@contextlib.contextmanager
def _errors_of(engine: str, path: Path) -> Iterator[None]:
    try:
        yield
    except PaddleCaitError:
        raise
    except ImportError as error:
        raise PaddleCaitError(f"{engine} is installed but does not load ({error}): install it again") from error
    except Exception as error:  # each runtime raises its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PaddleCaitError(
            f"{path}: {engine} cannot open it ({reason}); export it again, or use another engine or precision"
        ) from error


def _onnxruntime(files: list[Path], options: Options) -> tuple[Run, dict[str, Any]]:
    import onnxruntime

    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = options.threads
    wanted.inter_op_num_threads = 1
    wanted.log_severity_level = 3  # errors; its warnings are about optimisations
    providers: list[Any] = ["CPUExecutionProvider"]
    if options.device != "cpu":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": options.card, "use_tf32": 0}))
    session = onnxruntime.InferenceSession(str(files[0]), wanted, providers=providers)
    used = session.get_providers()
    if options.device != "cpu" and used[0] != "CUDAExecutionProvider":
        raise PaddleCaitError(
            "onnxruntime cannot use the GPU: its CUDA and cuDNN are missing or too old; use --device cpu"
        )
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, {name: images})
        return outputs

    return run, {"provider": used[0]}


def _openvino(files: list[Path], options: Options) -> tuple[Run, dict[str, Any]]:
    import_openvino()
    import openvino

    hint = "bf16" if options.precision == "bf16" else "f32"
    core = openvino.Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise PaddleCaitError("this CPU does not compute in bf16: use fp32")
    config = {"INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
    model = core.read_model(str(files[0]))
    requests: dict[int, Any] = {}  # batch size -> compiled for it; -1: for any size

    def compiled(size: int) -> Any:
        shaped = model.clone()
        if size > 0:
            shaped.reshape([size, *list(model.inputs[0].partial_shape)[1:]])
        with _errors_of("openvino", files[0]):
            return core.compile_model(shaped, "CPU", config).create_infer_request()

    def run(images: np.ndarray) -> list[np.ndarray]:
        # A known batch size is worth 8 to 20% (cait_xxs24_224, batch 8 and 1); a program uses few of them.
        size = len(images) if len(requests) < _STATIC_SIZES or len(images) in requests else -1
        if size not in requests:
            requests[size] = compiled(size)
        results = requests[size].infer({0: images}, share_inputs=True)
        return [results[i] for i in range(len(model.outputs))]

    return run, {"inference_precision_hint": hint, "streams": 1}


def _paddle(files: list[Path], options: Options) -> tuple[Run, dict[str, Any]]:
    version = str(_import_paddle(options.device).__version__)
    if files[0].suffix == ".json" and version.startswith("2."):  # it would end the process with a segmentation fault
        raise PaddleCaitError(
            f"{files[0]}: Paddle 3 wrote it, Paddle {version} cannot open it: export with this Paddle"
        )
    from paddle import inference

    config = inference.Config(*map(str, files[:2]))
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(options.threads)
    settings: dict[str, Any] = {}
    if options.device == "cpu":
        config.disable_gpu()
        settings["onednn"] = options.precision == "bf16" or bool(options.one_dnn)
        config.enable_mkldnn() if settings["onednn"] else config.disable_mkldnn()
        if options.precision == "bf16":
            _check_bfloat16(options)
            config.enable_mkldnn_bfloat16()
            # On Paddle 3.3 this pass leaves a fused layer its input's old shape: "in_mat_dims[1] == w_dims0" at the run
            config.delete_pass("operator_reshape_onednn_fuse_pass")
    else:
        config.enable_use_gpu(256, options.card, inference.PrecisionType.Float32)
    # enable_memory_optim() is left out: on Paddle 3.3 create_predictor then fails with "Not find predictor_id"
    with silence():  # Paddle 2.6 prints its bfloat16 passes to standard output, where a command's results go
        predictor = inference.create_predictor(config)
    x = predictor.get_input_handle(predictor.get_input_names()[0])
    outputs = [predictor.get_output_handle(name) for name in predictor.get_output_names()]

    def run(images: np.ndarray) -> list[np.ndarray]:
        x.reshape(images.shape)
        x.copy_from_cpu(images)
        predictor.run()
        return [output.copy_to_cpu() for output in outputs]

    return run, settings


def _check_bfloat16(options: Options) -> None:
    """Paddle's bfloat16 is oneDNN's, which takes it on older CPUs too, emulates it slowly, and says nothing."""
    if options.one_dnn is False:
        raise PaddleCaitError("paddle computes bf16 with oneDNN, which this model does not suit: use openvino for bf16")
    with contextlib.suppress(OSError):  # not Linux
        about = Path("/proc/cpuinfo").read_text()
        if " avx512_bf16" not in about and " amx_bf16" not in about:
            raise PaddleCaitError("this CPU does not compute in bf16 (no AVX512-BF16, no AMX): use fp32")


def _import_paddle(device: str) -> Any:
    """Paddle with the settings of the commands, unless the program has imported it with its own."""
    if "paddle" not in sys.modules:
        runtime.prepare(device)
    return importlib.import_module("paddle")


def _paddle_cards() -> int:
    paddle = _import_paddle("auto")
    return int(paddle.device.cuda.device_count()) if paddle.is_compiled_with_cuda() else 0


_OPEN = {"onnxruntime": _onnxruntime, "openvino": _openvino, "paddle": _paddle}
