"""Generated kernels: ``templates`` around the leaf functions of an energy, launched by ``launch`` and ``gradients``. Imports triton."""
