"""What the kernels of a read need of a GPU, from compiling them ahead of time: no GPU takes part, only Triton's compiler."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from .configs import Config
from .machine import EMULATED
from .operands import Operands
from .recording import Launch, launches

SHARED = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that one block may use, by compute capability (CUDA C++ Programming Guide, technical specifications)."""
_BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_INSTRUCTIONS = {"spills": r"(?:STL|LDL)", "products": r"(?:HGMMA|HMMA)", "copies": r"(?:LDGSTS|UTMALDG)"}


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel uses."""

    name: str
    config: Config
    arch: int
    registers: int  # of a thread
    spills: int  # instructions that store or load a spilled register (STL, LDL)
    stack: int  # bytes of a thread, for what it spills
    shared: int  # bytes of a block
    products: int  # tensor-core instructions (HGMMA of a warp group, or HMMA of a warp)
    grouped: int  # those among them that are HGMMA
    copies: int  # asynchronous copies from global to shared memory (LDGSTS, UTMALDG)

    @property
    def fits(self) -> bool:
        """Whether a block gets the shared memory it wants."""
        return self.shared <= SHARED[self.arch]

    @property
    def clean(self) -> bool:
        """Nothing spills and shared memory suffices."""
        return self.fits and not self.spills


def resources(read: Operands, arch: int = 90, **wants: Any) -> list[Resources]:
    """Resources of every kernel that a read and its gradients would launch, in their configurations, compiled for a compute capability.

    The signature, the compile-time constants and the alignments are taken from the very arguments of the launch, so that the
    code is the code that would run. ``read`` may live on the meta device (``operands`` makes one). Triton keeps what it compiled
    on disk. ``wants`` go to ``launches``.

    Raises:
        RuntimeError: Triton interprets (``TRITON_INTERPRET=1``) and compiles nothing.
    """
    return [compile_launch(each, arch) for each in launches(read, arch, **wants)]


def compile_launch(each: Launch, arch: int) -> Resources:
    """Compile one launch as ``triton.JITFunction.run`` would for a device of this compute capability."""
    if EMULATED:
        raise RuntimeError("Triton interprets kernels (TRITON_INTERPRET=1): there is nothing to compile.")
    target = GPUTarget("cuda", arch, 32)
    kernel, backend = each.kernel, make_backend(target)
    given = dict(each.constants, num_warps=each.config.warps, num_stages=each.config.stages)
    bound, specialization, _ = _binder(kernel, arch)(*each.arguments, **given)
    options, signature, constants, attributes = kernel._pack_args(backend, given, bound, specialization, given)
    made = triton.compile(ASTSource(kernel, signature, constants, attributes), target=target, options=options.__dict__)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = re.search(r"REG:(\d+) STACK:(\d+)", _read("cuobjdump", "-res-usage", file.name))
        code = _read("nvdisasm", "-c", file.name)
    assert usage is not None, "cuobjdump reported no resources"
    counts = {name: len(re.findall(rf"\b{pattern}\b", code)) for name, pattern in _INSTRUCTIONS.items()}
    return Resources(
        each.name, each.config, arch, int(usage[1]), stack=int(usage[2]), shared=made.metadata.shared, grouped=len(re.findall(r"\bHGMMA\b", code)), **counts
    )


@lru_cache(maxsize=64)
def _binder(kernel: Any, arch: int) -> Callable[..., Any]:
    return create_function_from_signature(kernel.signature, kernel.params, make_backend(GPUTarget("cuda", arch, 32)))


def _read(binary: str, *arguments: str) -> str:
    return subprocess.run([_BINARIES / binary, *arguments], capture_output=True, text=True, check=True).stdout
