"""How rows are computed: two paths to the same numbers, and the check that they are.

`reader` reads each token once: `planning` and `tree` say what there is to read, `cascade` is the
attention over the tree, in calls that `parts` describes and `kernels` and `segments` compute, and
`decoding` writes answers. `plain` reads prompt by prompt, as any library would; `selfcheck` chooses
between the two. The others are helpers: the model's `layers` and `norms`, `memory` that runs out,
work `ahead` of a GPU.
"""
