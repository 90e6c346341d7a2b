"""Memories in the place of attention: the model's own logits by softmax, one pass equal to many, and a cache that generate() can use."""

import copy
import pickle

import pytest
import torch

from hopfield_amem import Memory, presets
from hopfield_amem.energies import MEMORIES
from hopfield_amem.layers import Writing

transformers = pytest.importorskip("transformers")
from safetensors.torch import load_file  # noqa: E402
from transformers import DynamicCache, StaticCache  # noqa: E402

from hopfield_amem.integrations.huggingface import hopfield_, mixing  # noqa: E402
from hopfield_amem.integrations.huggingface.cache import MemorySlot  # noqa: E402
from hopfield_amem.integrations.huggingface.tokens import documents, presence  # noqa: E402

SIZES = {
    "vocab_size": 40, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
OWN = {"vocab_size": 40, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
KINDS = {
    "llama": ("Llama", SIZES),
    "qwen3": ("Qwen3", {**SIZES, "head_dim": 10}),  # norms of queries and keys; a width of its own
    "gpt2": ("GPT2", OWN),  # biases, one fused projection, absolute positions
    "qwen2": ("Qwen2", SIZES),
    "phi": ("Phi", {**SIZES, "num_key_value_heads": 4, "partial_rotary_factor": 0.67}),  # four of six channels turn
    "cohere": ("Cohere", {**SIZES, "use_qk_norm": True}),  # pairs of neighbours turn
    "granite": ("Granite", {**SIZES, "attention_multiplier": 0.3}),  # a scaling of its own
    "opt": ("OPT", {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 24}),  # scales its queries itself
    "gemma2": ("Gemma2", {**SIZES, "head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": None, "sliding_window": 32}),
}
SOFTMAX = Memory(presets.log_sum_exp())
CELLS = {**MEMORIES, "softmax": SOFTMAX, "linear": Memory(presets.linear_attention())}
FIRST, MIDDLE, LAST, ALL = (0,), (1,), (2,), (0, 1, 2)


def model(kind, implementation="sdpa", dtype=None):
    """A model whose attention is peaked enough to matter. Eager attention takes its softmax in float32, and cannot mask in float64."""
    name, sizes = KINDS[kind]
    dtype = dtype or (torch.float64 if implementation == "sdpa" else torch.float32)
    config = getattr(transformers, f"{name}Config")(**sizes)
    config._attn_implementation = implementation
    made = getattr(transformers, "GPT2LMHeadModel" if kind == "gpt2" else f"{name}ForCausalLM")(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    return made


def mixed(made, memory, layers=ALL, **options):
    """The same model with memories in some of its layers."""
    for name, module in list(made.named_modules()):
        replacement = mixing(module, memory, **options)
        if not isinstance(replacement, str) and module.layer_idx in layers:
            made.set_submodule(name, replacement)
    return made


def tokens(*shape):
    return torch.randint(3, 40, shape)


def padded(length=9, left=4):
    """Tokens whose second row has padding on the left, and their mask."""
    ids, there = tokens(2, length), torch.ones(2, length, dtype=torch.long)
    ids[1, :left], there[1, :left] = 0, 0
    return ids, there


def close(ours, expected):
    """Equal to 1e-8 of the largest number, or in float32 to 1e-5."""
    bound = (1e-8 if expected.dtype == torch.float64 else 1e-5) * float(expected.detach().abs().max().clamp_min(1))
    torch.testing.assert_close(ours, expected, rtol=0, atol=bound)


def generated(made, ids, there=None, **options):
    there = torch.ones_like(ids) if there is None else there
    return made.generate(ids, attention_mask=there, max_new_tokens=6, do_sample=False, **options)


CASES = [(kind, implementation) for kind in KINDS for implementation in ("sdpa", "eager") if (kind, implementation) != ("gemma2", "sdpa")]


@pytest.mark.parametrize("kind, implementation", CASES)
def test_a_softmax_memory_gives_the_logits_the_gradients_and_the_parameters_of_the_model(kind, implementation):
    stock, (ids, there) = model(kind, implementation), padded()
    ours = mixed(copy.deepcopy(stock), SOFTMAX)
    expected, logits = (made(ids, attention_mask=there).logits[there.bool()] for made in (stock, ours))
    close(logits, expected)
    assert list(ours.state_dict()) == list(stock.state_dict())
    assert sum("Mixed" in type(module).__name__ for module in ours.modules()) == 3
    expected.square().sum().backward()
    logits.square().sum().backward()
    for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
        close(mine.grad, theirs.grad)


@pytest.mark.parametrize("kind, implementation", [("llama", "sdpa"), ("qwen3", "sdpa"), ("gpt2", "sdpa"), ("gemma2", "eager")])
def test_a_softmax_memory_generates_what_the_model_does(kind, implementation):
    stock, (ids, there) = model(kind, implementation), padded()
    ours = mixed(copy.deepcopy(stock), SOFTMAX, layers=(0, 2))
    assert torch.equal(generated(ours, ids, there), generated(stock, ids, there))


def test_parameters_are_shared_and_the_attention_stays_as_it_was():
    stock = model("llama")
    attention, ids = stock.model.layers[1].self_attn, tokens(2, 7)
    expected = stock(ids).logits
    mixer = mixing(attention, presets.delta_net())
    stock.model.layers[1].self_attn = mixer
    assert not torch.allclose(stock(ids).logits, expected)
    assert mixer.q_proj.weight is attention.q_proj.weight and isinstance(mixer, type(attention))
    assert not hasattr(attention, "cell") and attention.config is stock.config and stock.config._attn_implementation == "sdpa"
    stock.model.layers[1].self_attn = attention
    assert torch.equal(stock(ids).logits, expected)


def test_hopfield_swaps_attention_and_gives_it_back():
    made, ids = model("qwen3"), tokens(2, 7)
    expected = made(ids).logits
    report = hopfield_(made, presets.gated_delta_net(), targets=["0.self_attn", "2.self_attn"])
    assert list(report.replaced) == ["model.layers.0.self_attn", "model.layers.2.self_attn"]
    assert not torch.allclose(made(ids).logits, expected)
    report.undo()
    assert torch.equal(made(ids).logits, expected)


@pytest.mark.parametrize("name", CELLS)
def test_a_sequence_in_pieces_equals_one_pass_whatever_is_padding(name):
    made, (ids, there) = mixed(model("llama"), CELLS[name]), padded(13)
    whole, pieces = made(ids, attention_mask=there, use_cache=False).logits, read_in_pieces(made, ids, there, [5, 4, 1, 2, 1])
    close(pieces[there.bool()], whole[there.bool()])
    close(pieces[1, 4:], made(ids[1:, 4:], position_ids=torch.arange(4, 13)[None]).logits[0])


def read_in_pieces(made, ids, there, sizes):
    cache, pieces, end = DynamicCache(config=made.config), [], 0
    for piece in ids.split(sizes, 1):
        end += piece.shape[1]
        pieces.append(made(piece, attention_mask=there[:, :end], past_key_values=cache).logits)
        assert cache.get_seq_length() == end
    return torch.cat(pieces, 1)


@pytest.mark.parametrize("layers", [FIRST, MIDDLE, LAST])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former"])
def test_memories_and_attention_stand_beside_each_other(kind, layers, name):
    made, (ids, there) = mixed(model(kind, dtype=torch.float32), CELLS[name], layers), padded(13)
    whole = made(ids, attention_mask=there, use_cache=False).logits
    pieces = read_in_pieces(made, ids, there, [5, 4, 1, 3])
    close(pieces[there.bool()], whole[there.bool()])


@pytest.mark.parametrize("layers", [MIDDLE, ALL])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("name", ["delta_net", "delta_former", "mesa_net"])
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}], ids=["greedy", "beams", "several"])
def test_generation_is_the_same_without_a_cache(kind, layers, name, options):
    made, (ids, there) = mixed(model(kind), CELLS[name], layers), padded(6, 2)
    cached = generated(made, ids, there, **options)
    assert cached.shape == (2 * options.get("num_return_sequences", 1), 12) and len(cached.unique()) > 4
    assert torch.equal(cached, generated(made, ids, there, use_cache=False, **options))


def test_the_decoder_of_an_encoder_and_a_decoder_has_memories_too():
    layers = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 16))}
    config = transformers.BartConfig(vocab_size=40, d_model=16, **layers, decoder_start_token_id=1, forced_eos_token_id=None, eos_token_id=None, pad_token_id=0)
    made, (ids, there) = transformers.BartForConditionalGeneration(config).double().eval(), padded()
    mixed(made, presets.gated_delta_net())
    assert [name for name, module in made.named_modules() if hasattr(module, "cell")] == [f"model.decoder.layers.{i}.self_attn" for i in range(2)]
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(20)
    assert torch.equal(generated(made, ids, there, num_beams=2), generated(made, ids, there, num_beams=2, use_cache=False))


def test_samples_of_one_prompt_have_a_memory_each():
    made, ids = mixed(model("llama"), presets.gated_delta_net()), tokens(1, 5)
    sampled = made.generate(ids, max_new_tokens=6, do_sample=True, num_return_sequences=4, return_dict_in_generate=True, output_logits=True)
    assert len({tuple(row) for row in sampled.sequences.tolist()}) > 1
    whole = made(sampled.sequences, use_cache=False).logits[:, 4:-1]
    torch.testing.assert_close(torch.stack(sampled.logits, 1).double(), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former", "softmax"])
def test_padding_on_either_side_is_not_there_in_training(name, implementation):
    made, ids = mixed(model("llama", implementation), CELLS[name]).train(), tokens(1, 5)
    for there in (torch.tensor([[0, 0, 1, 1, 1, 1, 1]]), torch.tensor([[1, 1, 1, 1, 1, 0, 0]])):
        inputs = tokens(1, 7).masked_scatter(there.bool(), ids)
        alone = made(ids, position_ids=torch.arange(7)[None][there.bool()][None]).logits[0]
        close(made(inputs, attention_mask=there).logits[there.bool()], alone)


@pytest.mark.parametrize("name", CELLS)
def test_a_cache_is_reordered_repeated_chosen_and_emptied(name):
    made, ids, more = mixed(model("llama"), CELLS[name]), tokens(3, 5), tokens(1, 2)

    def after(change, rows):
        cache = DynamicCache(config=made.config)
        made(ids, past_key_values=cache)
        change(cache)
        went_on = made(more.expand(len(rows), -1), past_key_values=cache).logits
        whole = made(torch.cat([ids[rows], more.expand(len(rows), -1)], 1)).logits[:, 5:]
        close(went_on, whole)

    after(lambda cache: cache.reorder_cache(torch.tensor([2, 0, 0])), [2, 0, 0])
    after(lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2])
    after(lambda cache: cache.batch_select_indices(torch.tensor([1, 2])), [1, 2])
    after(lambda cache: cache.crop(0), [0, 1, 2])
    cache = DynamicCache(config=made.config)
    made(tokens(3, 4), past_key_values=cache)
    cache.reset()
    close(made(ids, past_key_values=cache).logits, made(ids).logits)


@torch.no_grad()
def test_a_prompt_is_read_once_for_many_answers():
    made, prompt = mixed(model("gpt2"), presets.kimi_delta_attention()), tokens(1, 6)
    read = DynamicCache(config=made.config)
    made(prompt, past_key_values=read)
    for _ in range(2):
        ids = torch.cat([prompt, tokens(1, 3)], 1)
        assert torch.equal(generated(made, ids, past_key_values=copy.deepcopy(read)), generated(made, ids))
    assert read.get_seq_length() == 6


@pytest.mark.parametrize("name, grows", [("gated_delta_net", False), ("mesa_net", False), ("softmax", True), ("delta_former", True)])
def test_the_state_of_a_linear_memory_does_not_grow(name, grows):
    made = mixed(model("llama"), CELLS[name])
    held = []
    for length in (3, 40):
        cache = DynamicCache(config=made.config)
        made(tokens(2, length), past_key_values=cache)
        assert all(isinstance(slot, MemorySlot) for slot in cache.layers)
        held.append(sum(part.numel() for slot in cache.layers for part in slot.memory if part is not None))
    assert (held[1] > held[0]) is grows


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former", "softmax"])
def test_documents_in_one_row_do_not_see_each_other(name, implementation):
    made, rows = mixed(model("llama", implementation), CELLS[name]), [[tokens(n) for n in lengths] for lengths in ([4, 1, 6], [11])]
    ids = torch.stack([torch.cat(row) for row in rows])
    positions = torch.stack([torch.cat([torch.arange(len(part)) for part in row]) for row in rows])
    packed = made(ids, position_ids=positions, use_cache=False).logits
    alone = torch.stack([torch.cat([made(part[None]).logits[0] for part in row]) for row in rows])
    close(packed, alone)
    assert not torch.allclose(packed[0], made(ids).logits[0])


def test_documents_are_found_by_what_neighbours_see():
    causal = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    causal[0, :, 3:, :3] = False
    there = presence(causal, 2, 5)
    assert there.all() and documents(causal, there).tolist() == [0, 3, 5, 10]
    additive = torch.zeros(causal.shape).masked_fill(~causal, torch.finfo(torch.float32).min)
    assert documents(additive, presence(additive, 2, 5)).tolist() == [0, 3, 5, 10]
    longer = torch.cat([torch.ones(2, 1, 5, 3, dtype=torch.bool), causal], -1)  # the newest five of eight tokens
    assert documents(longer, presence(longer, 2, 5)).tolist() == [0, 3, 5, 10]
    causal[1, :, :, 0] = causal[1, :, 0] = False  # padding is no beginning
    assert presence(causal, 2, 5).tolist() == [[True] * 5, [False] + 4 * [True]]
    assert documents(causal[1:], presence(causal[1:], 1, 5)) is None
    assert presence(torch.tensor([[0, 0, 1, 1]]), 1, 3).tolist() == [[False, True, True]]


def test_boundaries_given_as_flash_attention_has_them_are_kept():
    attention = model("llama").model.layers[0].self_attn
    mixer, x = mixing(attention, presets.delta_net()), torch.randn(1, 7, 24, dtype=torch.float64)
    turns = torch.ones(1, 7, 6, dtype=torch.float64), torch.zeros(1, 7, 6, dtype=torch.float64)
    packed, _ = mixer(x, position_embeddings=turns, cu_seq_lens_q=torch.tensor([0, 3, 7]))
    parts = [mixer(part, position_embeddings=[turn[:, : part.shape[1]] for turn in turns])[0] for part in x.split([3, 4], 1)]
    close(packed, torch.cat(parts, 1))


def test_arguments_may_come_in_the_attentions_own_order():
    for kind, given in (("llama", "position_embeddings"), ("gpt2", "past_key_values")):
        made = mixed(model(kind), presets.delta_net())
        mixer = next(module for module in made.modules() if hasattr(module, "cell"))
        turns, x = (torch.ones(1, 4, 6, dtype=torch.float64), torch.zeros(1, 4, 6, dtype=torch.float64)), torch.randn(1, 4, 24, dtype=torch.float64)
        second = turns if kind == "llama" else DynamicCache()
        named = mixer(x, **{given: turns if kind == "llama" else DynamicCache()})[0]
        assert torch.equal(mixer(x, second)[0], named)


def test_decay_per_channel_leaves_the_rotary_positions_out():
    ids, far = tokens(1, 6), 7 * torch.arange(6)[None] % 5
    for name, same in (("kimi_delta_attention", True), ("gated_delta_net", False)):
        made = mixed(model("llama"), CELLS[name])
        mask = torch.ones(1, 6, dtype=torch.long)
        assert torch.allclose(made(ids, mask).logits, made(ids, mask, position_ids=far).logits) is same


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")  # 5.17 knows no other name
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_it_trains_with_and_without_checkpoints(kind):
    made, ids = mixed(model(kind), presets.gated_delta_net()).train(), tokens(2, 12)
    if kind == "gpt2":
        made.apply(lambda module: module.eval() if isinstance(module, torch.nn.Dropout) else None)
    made(ids, labels=ids).loss.backward()
    plain = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in plain.values()) and any("cell.forget" in name for name in plain)
    made.zero_grad()
    made.gradient_checkpointing_enable()
    made(ids, labels=ids, use_cache=False).loss.backward()
    for name, parameter in made.named_parameters():
        close(parameter.grad, plain[name])
    made.gradient_checkpointing_disable()
    optimizer = torch.optim.Adam(made.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        loss = made(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", ["gated_delta_net", "softmax"])
def test_a_saved_model_is_built_mixed_and_loaded(name, tmp_path):
    made, ids = mixed(model("qwen3", dtype=torch.float32), CELLS[name]), tokens(2, 7)
    made.save_pretrained(tmp_path)
    again = mixed(transformers.Qwen3ForCausalLM(transformers.AutoConfig.from_pretrained(tmp_path)), CELLS[name]).eval()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again(ids).logits, made(ids).logits)
    if name == "softmax":  # no parameters of its own: the stock model takes the file as it is
        close(transformers.Qwen3ForCausalLM.from_pretrained(tmp_path)(ids).logits, made(ids).logits)


def test_a_mixer_copies_pickles_casts_and_shows_its_memory():
    made, ids = mixed(model("llama", dtype=torch.float32), presets.gated_delta_net()), tokens(2, 6)
    expected = made(ids).logits
    assert torch.equal(copy.deepcopy(made)(ids).logits, expected)
    mixer = made.model.layers[0].self_attn
    revived = pickle.loads(pickle.dumps(mixer))
    turns = made.model.rotary_emb(torch.zeros(1), torch.arange(6)[None])
    x = torch.randn(1, 6, 24)
    assert torch.equal(revived(x, position_embeddings=turns)[0], mixer(x, position_embeddings=turns)[0])
    assert "MemoryCell" in repr(made) and "½‖ŷ − v‖²" in repr(made)
    half = copy.deepcopy(made).bfloat16()
    assert mixer.cell.rate.weight.dtype == torch.float32 and half(ids).logits.dtype == torch.bfloat16
    assert generated(half, ids).shape == (2, 12)
    with torch.autocast("cpu", torch.bfloat16):
        assert made(ids).logits.isfinite().all()


def test_children_are_called_and_hooks_come_along():
    made, calls = model("llama"), []
    attention = made.model.layers[0].self_attn
    attention.register_forward_hook(lambda *_: calls.append("attention"))
    mixer = made.model.layers[0].self_attn = mixing(attention, presets.delta_net())
    stock, mixer.q_proj = mixer.q_proj, torch.nn.Sequential(mixer.q_proj, torch.nn.Linear(24, 24, bias=False, dtype=torch.float64))
    stock.register_forward_hook(lambda *_: calls.append("query"))
    made(tokens(1, 4))
    assert calls == ["query", "attention"] and isinstance(attention.q_proj, torch.nn.Linear)


def test_it_compiles_in_one_graph():
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, "num_hidden_layers": 1}))
    made, ids, causal = mixed(made, presets.gated_delta_net()), tokens(2, 6), torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    torch.compiler.reset()
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    left, documents = causal.clone(), causal.clone()
    left[1, :, :, :2] = documents[1, :, 3:, :3] = False
    logits = compiled(ids, attention_mask=left, use_cache=False).logits
    close(logits[1, 2:], made(ids, attention_mask=left, use_cache=False).logits[1, 2:])
    with pytest.raises(RuntimeError, match="documents share a row"):
        compiled(ids, attention_mask=documents, use_cache=False)


def test_keys_rates_and_decays_are_as_asked():
    attention = model("llama").model.layers[0].self_attn
    mixer = mixing(attention, presets.gated_delta_net(), norm=2**0.5, writing=Writing(rate=1.0, decay=(0.9, 0.8)))
    assert not list(mixer.cell.parameters()) and mixer.cell.memories == 2 and mixer.cell.heads == 4
    keys = mixer.cell.normed(torch.randn(3, 5, dtype=torch.float64))
    torch.testing.assert_close(keys.norm(dim=-1), torch.full((3,), 2**0.5, dtype=torch.float64))
    assert mixer.cell.memory == presets.gated_delta_net()
    own = mixing(attention, presets.delta_former(2.0, presets.linear_attention(3.0))).cell.memory
    assert own.read == presets.log_sum_exp(2 * 6**-0.5) and own.prediction == presets.linear_attention(3 * 6**-0.5)


@pytest.mark.parametrize(
    "name, sizes, reason",
    [
        ("BertModel", {}, "causal"),
        ("BloomModel", {}, "calls the function"),
        ("GptOssModel", {"num_local_experts": 2, "num_key_value_heads": 2, "head_dim": 4}, "sinks"),
        ("ViTModel", {}, "causal"),
    ],
)
def test_what_a_memory_cannot_stand_for_is_declined(name, sizes, reason):
    config = getattr(transformers, name.replace("Model", "Config"))
    made = getattr(transformers, name)(config(hidden_size=8, vocab_size=40, num_hidden_layers=1, num_attention_heads=2, **sizes))
    answers = [mixing(module, presets.delta_net()) for module in made.modules() if "Attention" in type(module).__name__]
    assert answers and all(isinstance(answer, str) for answer in answers) and any(reason in answer for answer in answers)


def test_cross_attention_other_modules_and_mixers_are_declined():
    config = transformers.GPT2Config(**OWN, add_cross_attention=True)
    block = transformers.GPT2Model(config).h[0]
    assert "causal" in mixing(block.crossattention, presets.delta_net())
    assert "no attention" in mixing(block.mlp, presets.delta_net())
    assert "already" in mixing(mixing(block.attn, presets.delta_net()), presets.delta_net())
    block.attn.forward = block.attn.forward
    assert "replaced" in mixing(block.attn, presets.delta_net())


def test_errors_say_what_to_do():
    stock = model("llama")
    attention, ids = stock.model.layers[0].self_attn, tokens(1, 6)
    with pytest.raises(ValueError, match="erase keys"):
        mixing(attention, presets.delta_net(), writing=Writing(erase=True))
    with pytest.raises(ValueError, match="Memory or a ReadEnergy"):
        mixing(attention, "softmax")
    filled = DynamicCache(config=stock.config)
    stock(ids, past_key_values=filled)
    made = mixed(copy.deepcopy(stock), presets.delta_net())
    with pytest.raises(ValueError, match="already holds keys"):
        made(ids, past_key_values=filled)
    with pytest.raises(ValueError, match="dynamic cache"):
        made(ids, past_key_values=StaticCache(config=made.config, max_cache_len=8))
    with pytest.raises(TypeError, match="transformers Cache"):
        made.model.layers[0].self_attn(torch.zeros(1, 2, 24, dtype=torch.float64), past_key_values=())
    memories = DynamicCache(config=made.config)
    made(ids, past_key_values=memories)
    with pytest.raises(RuntimeError, match="new cache"):
        stock(ids, past_key_values=memories)
    with pytest.raises(ValueError, match="last tokens"):
        memories.crop(-2)
    assert not memories.layers[0].is_croppable and not memories.is_compileable
    ahead = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="later ones"):
        made(ids, attention_mask=ahead)
    with pytest.raises(ValueError, match="use_cache=False"):
        made(ids, attention_mask=torch.block_diag(torch.ones(3, 3).tril(), torch.ones(3, 3).tril())[None, None].bool())
    with pytest.raises(ValueError, match="encoder"):
        made.model.layers[0].self_attn(torch.zeros(1, 2, 24), encoder_hidden_states=torch.zeros(1, 2, 24))
    with pytest.raises(ValueError, match="attention mask for 6 tokens"):
        presence(torch.ones(1, 3), 1, 6)
    with pytest.raises(TypeError, match="sdpa or eager"):
        presence("flex", 1, 6)


def test_an_assistant_is_refused_where_it_is_wrong():
    made, ids = mixed(model("llama"), presets.delta_net()), tokens(1, 3).repeat(1, 4)
    with pytest.raises(ValueError, match="without an assistant"):
        made.generate(ids, max_new_tokens=12, do_sample=False, prompt_lookup_num_tokens=3, eos_token_id=2)
