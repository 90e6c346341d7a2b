"""The slot of a memory in a HuggingFace cache: the state of one layer, instead of its keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, EncoderDecoderCache


class MemorySlot(CacheLayerMixin):
    """What one layer's memory holds after the tokens ``seen`` so far: a state of ``associate``, tensors with the batch in front.

    A state cannot be taken back to an earlier token, so that assisted decoding, which does, is refused where it rejects a token.
    """

    is_compileable = False
    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def __init__(self):
        super().__init__()
        self.memory: Any = None
        self.seen = 0
        self.expected = False  # whether a mixer is about to store what its attention hands over

    def lazy_initialization(self, *args, **kwargs) -> None:
        self.is_initialized = True

    def store(self, memory: Any, tokens: int) -> None:
        """Keep the state after so many more tokens."""
        self.memory, self.seen, self.expected, self.is_initialized = memory, self.seen + tokens, False, True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """The new keys and values alone: what came before is in the memory.

        Raises:
            RuntimeError: where an attention asks for earlier keys and values, as after the mixers were taken out again.
        """
        if not self.expected:
            raise RuntimeError("This slot of the cache holds a memory, not keys and values. Start with a new cache.")
        return key_states, value_states

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int | Tensor) -> tuple[int, int]:
        tokens = len(query_length) if isinstance(query_length, Tensor) else query_length  # positions, in the first releases of transformers 5
        return self.seen + tokens, 0

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # its name there

    def offload(self) -> None:
        """Nothing: a memory stays where it is computed."""

    def prefetch(self) -> None:
        """Nothing, see ``offload``."""

    def reset(self) -> None:
        self.memory, self.seen, self.is_initialized = None, 0, False

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._each(lambda held: held.index_select(0, beam_idx.to(held.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._each(lambda held: held.repeat_interleave(repeats, 0))

    def batch_select_indices(self, indices: Tensor) -> None:
        self._each(lambda held: held[indices.to(held.device)])

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ValueError unless there is nothing to remove."""
        if tokens_to_remove < 0 or (tokens_to_remove > 0 and tokens_to_remove < self.seen):
            raise ValueError("A memory cannot forget its last tokens: generate without an assistant (assisted and prompt lookup decoding reject tokens).")

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.memory is not None:
            self.memory = type(self.memory)(*(None if held is None else change(held) for held in self.memory))


def claim(cache: Cache, layer: int) -> MemorySlot:
    """The slot of a layer in a cache, made on first use and ready to store.

    Raises:
        TypeError: something else than a ``Cache``.
        ValueError: a static cache, a slot that other states share, or one that already holds keys and values.
    """
    if not isinstance(cache, Cache):
        raise TypeError(f"A mixer keeps its memory in a transformers Cache, for example DynamicCache(config=model.config), got {type(cache).__name__}.")
    if isinstance(cache, EncoderDecoderCache):
        return claim(cache.self_attention_cache, layer)
    while len(cache.layers) <= layer and cache.layer_class_to_replicate is not None:
        cache.layers.append(cache.layer_class_to_replicate())
    slot = cache.layers[layer]
    if not isinstance(slot, MemorySlot):
        if not isinstance(slot, DynamicLayer) or hasattr(slot, "recurrent_states"):
            raise ValueError(
                f"A mixer takes the slot of a dynamic cache, which is generate()'s default; slot {layer} is a {type(slot).__name__} (static, or shared)."
            )
        if slot.is_initialized:
            raise ValueError(f"Slot {layer} of the cache already holds keys and values of an attention. Start with a new cache.")
        slot = cache.layers[layer] = MemorySlot()
    slot.expected = True
    return slot
