import json
import os

import pytest
import torch
from safetensors.torch import save_file

from hopfield_amem import ENERGIES, MEMORIES, Memory, presets, retrieve
from hopfield_amem.energies import Cosine, Delta, Dot, Exp, Log, ReadEnergy, Ridge
from hopfield_amem.storage import FORMAT, load_memory, save_memory

SEEDED = torch.Generator().manual_seed(0)
KEYS, VALUES, QUERY = (torch.randn(shape, generator=SEEDED) for shape in ((6, 4), (6, 3), (2, 4)))
SPECS = [
    *ENERGIES.values(),
    Memory(presets.linear_attention(), Delta()),
    Memory(presets.linear_attention(), Ridge(0.3)),
    *MEMORIES.values(),
    ReadEnergy(Cosine(), Exp(), Log()),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_memory_comes_back_as_it_was(spec, tmp_path):
    presence = torch.tensor([1, 1, 0, 1, 1, 1]).bool()
    save_memory(tmp_path / "m.safetensors", spec, KEYS, VALUES, presence=presence)
    stored = load_memory(tmp_path / "m.safetensors")
    assert stored.spec == spec
    assert torch.equal(
        retrieve(stored.spec, QUERY, stored.keys, stored.values, presence=stored.presence), retrieve(spec, QUERY, KEYS, VALUES, presence=presence)
    )
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_values_that_share_memory_with_keys_and_a_learned_beta(tmp_path):
    beta = torch.tensor([0.5, 2.0], requires_grad=True)
    save_memory(tmp_path / "m", presets.entmax().at(beta), KEYS.expand(2, 6, 4), KEYS.T.T.expand(2, 6, 4))
    stored = load_memory(tmp_path / "m")
    assert torch.equal(stored.spec.beta, beta) and torch.equal(stored.values, KEYS.expand(2, 6, 4)) and stored.presence is None


def test_functions_and_misfits_are_refused_at_the_door(tmp_path):
    with pytest.raises(ValueError, match="cannot hold the function"):
        save_memory(tmp_path / "m", ReadEnergy(Dot(), lambda s: s.relu() ** 3, Log()), KEYS)
    with pytest.raises(ValueError, match="Every key needs one value"):
        save_memory(tmp_path / "m", presets.log_sum_exp(), KEYS, VALUES[:3])
    with pytest.raises(TypeError, match="ReadEnergy or a Memory"):
        save_memory(tmp_path / "m", "softmax", KEYS)
    assert not os.listdir(tmp_path)


def _write(path, text, **tensors):
    save_file(tensors or {"keys": KEYS}, path, metadata=None if text is None else {FORMAT: text})


def _content(spec, version=1):
    return json.dumps({"format": FORMAT, "version": version, "spec": spec})


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "not a stored memory"),
        ("{", "cannot be restored"),
        ("[]", "cannot be restored"),
        (_content({"is": "ReadEnergy"}), "cannot be restored"),
        (_content({"is": "os.system", "command": "true"}), "unknown part"),
        (_content({"is": "Exp"}), "not an energy"),
        (_content({"is": "Exp", "surprise": 1}), "cannot be restored"),
        (_content({"is": "Exp"}, version=99), "version 99"),
    ],
)
def test_foreign_files_are_refused(text, message, tmp_path):
    _write(tmp_path / "m", text)
    with pytest.raises(ValueError, match=message):
        load_memory(tmp_path / "m")


def test_missing_damaged_and_truncated_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no stored memory"):
        load_memory(tmp_path / "nothing")
    (tmp_path / "noise").write_bytes(b"\x00\xff" * 50)
    save_memory(tmp_path / "whole", presets.log_sum_exp(), KEYS)
    (tmp_path / "half").write_bytes((tmp_path / "whole").read_bytes()[:-20])
    for name in ("noise", "half"):
        with pytest.raises(ValueError, match="damaged or no safetensors file"):
            load_memory(tmp_path / name)


def test_tensors_that_do_not_fit_the_spec(tmp_path):
    save_memory(tmp_path / "m", presets.log_sum_exp(), KEYS)
    from safetensors import safe_open

    with safe_open(tmp_path / "m", "pt") as file:
        text = file.metadata()[FORMAT]
    _write(tmp_path / "bad", text, keys=KEYS, values=VALUES[:2].clone())
    with pytest.raises(ValueError, match="Every key needs one value"):
        load_memory(tmp_path / "bad")
