"""The Triton kernels: run by Triton's interpreter, and compiled for GPUs that are not here."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from captiond.captioners import fusion, kernels, resize_kernel
from tests.patience import PATIENCE

INTERPRETED = Path(__file__).with_name("interpreted_kernels.py")
AMPERE, ADA, HOPPER = 80, 89, 90  # compute capabilities


def test_the_kernels_compute_what_torch_computes() -> None:
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(INTERPRETED))
    environ = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("capability", [AMPERE, HOPPER])
def test_the_kernels_compile_for_gpus(capability: int) -> None:
    norm: Any = kernels._layer_norm
    tensors = ("x", "residual", "weight", "bias", "total", "normalized")
    constants = {"width": 768, "block": 1024, "adds": True, "keeps": True}
    signature = {**dict.fromkeys(tensors, "*bf16"), "eps": "fp32"}
    assert compiled(norm, signature, constants, capability)
    attention: Any = kernels._attend_newest
    tensors = ("query", "key", "value", "keys", "values", "attended")
    strides = {f"{name}_stride": "i32" for name in ("row", "cache_row", "cache_head")}
    signature = {**dict.fromkeys(tensors, "*bf16"), "position": "*i64", **strides, "scale": "fp32"}
    assert compiled(attention, signature, {"heads": 12, "width": 64, "block": 32}, capability)


@pytest.mark.parametrize("capability", [ADA, HOPPER])
def test_the_kernels_of_fp8_compile_for_gpus_that_have_it(capability: int) -> None:
    norm: Any = kernels._layer_norm
    tensors = dict.fromkeys(("x", "residual", "weight", "bias", "total"), "*bf16")
    constants = {"width": 768, "block": 1024, "adds": True, "keeps": True}
    assert compiled(
        norm, {**tensors, "normalized": "*fp8e4nv", "eps": "fp32"}, constants, capability
    )
    convert: Any = kernels._to_fp8
    signature = {"x": "*bf16", "out": "*fp8e4nv", "factor": "fp32", "count": "i32"}
    assert compiled(convert, signature, {"block": 4096, "gelu": True}, capability)
    attention: Any = kernels._attend_fp8
    tensors = {"query": "*bf16", "attended": "*bf16", "keys": "*fp8e4nv", "values": "*fp8e4nv"}
    numbers = ("columns", "query_image", "query_head", "query_column")
    strides = ("image_stride", "head_stride", "token_stride")
    factors = {"score_factor": "fp32", "value_factor": "fp32"}
    signature = {**tensors, **dict.fromkeys((*numbers, *strides), "i32"), **factors}
    constants = {"heads": 12, "tokens": 577, "width": 64}
    for block in (kernels.PATCHES_OF_MANY[0], kernels.PATCHES_OF_FEW[0]):
        constants |= {"block": block, "rows": kernels.QUERIES}
        assert compiled(attention, signature, constants, capability)


@pytest.mark.parametrize("capability", [AMPERE, HOPPER])
def test_the_kernel_that_resizes_compiles_for_gpus(capability: int) -> None:
    kernel: Any = resize_kernel._resize
    signature = {"numbers": "*i32", "passes_at": "i32", "source": "*u8", "target": "*u8"}
    constants = {"fields": resize_kernel.FIELDS, "block": resize_kernel.BLOCK, "bits": 22}
    assert compiled(kernel, signature, constants, capability)


def compiled(
    kernel: Any, signature: dict[str, str], constants: dict[str, int], capability: int
) -> bytes:
    """Return the machine code of a kernel, by the compiler that Triton brings along."""
    every = {**signature, **dict.fromkeys(constants, "constexpr")}
    ordered = {name: every[name] for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=ordered, constexprs=constants)
    code: bytes = triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]
    return code


def test_only_half_precision_on_a_gpu_uses_kernels() -> None:
    assert fusion.kernels_for(torch.float32, torch.device("cuda")) is None
    assert fusion.kernels_for(torch.bfloat16, torch.device("cpu")) is None


def test_torch_is_used_where_triton_does_not_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "captiond.captioners.kernels", ModuleType("broken"))
    monkeypatch.delattr("captiond.captioners.kernels")
    assert fusion.kernels_for(torch.bfloat16, torch.device("cuda")) is None
    assert "no_triton_kernels" in capsys.readouterr().out
