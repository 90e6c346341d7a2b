"""What Triton's interpreter works out anew for every operation, remembered: the same numbers and the same checks in less than half of the time."""

import functools

import triton
import triton.language as tl
from triton.runtime import interpreter


def memoise():
    """Of the version whose sources were read; any other interprets as it is."""
    if triton.__version__.startswith("3.6."):
        interpreter._patch_lang = _once(interpreter._patch_lang)
        interpreter._get_np_dtype = _of_elements(interpreter._get_np_dtype)
        tl.core._type_for_tuple_values = _of_numbers(tl.core._type_for_tuple_values)
        tl.core.block_type.__init__ = _of_shape(tl.core.block_type.__init__)
        tl.core.tensor.__init__ = _of_block(tl.core.tensor.__init__)


def _once(patch):
    """A function called by a kernel finds the language patched already, which searching every module again would only confirm."""

    @functools.cache
    def languages(function):
        return [value for value in function.__globals__.values() if value is tl or value is tl.core]

    def patched(function):
        if any(tl.core.is_builtin(language.load) for language in languages(function)):
            return patch(function)
        return interpreter._LangPatchScope()

    return patched


def _of_elements(numpy_type):
    remembered = functools.cache(numpy_type)
    return lambda kind: numpy_type(kind) if kind.scalar.is_ptr() else remembered(kind.scalar)


def _of_numbers(types):
    remembered = functools.cache(types)
    return lambda values, fields=None: types(values, fields) if fields or any(type(value) is not int for value in values) else remembered((*values,))


def _of_shape(build):
    known = {}

    def remembered(block, element_ty, shape):
        sizes = (*(size.value if type(size) is tl.constexpr else size for size in shape),)
        if sizes not in known or any(type(size) is not int for size in sizes):  # 16.0 is as good a key as 16, and no size
            build(block, element_ty, shape)
            known[sizes] = block.shape, block.numel, str(block.shape)
        block.element_ty = element_ty
        block.shape, block.numel, written = known[sizes]
        block.name = f"<{written}, {element_ty}>"

    return remembered


def _of_block(build):
    known = {}

    def remembered(tensor, handle, kind):
        sizes = (*kind.shape.values,) if kind.is_block() else ()
        if sizes not in known:
            build(tensor, handle, kind)
            known[sizes] = tensor.shape, tensor.numel
        tensor.handle, tensor.type, tensor.dtype = handle, kind, kind.scalar
        tensor.shape, tensor.numel = known[sizes]

    return remembered
