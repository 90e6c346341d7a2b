"""Generated kernels: templates (``forward``, ``backward``, ``threshold``) around the leaf functions of an energy. Imports triton."""
