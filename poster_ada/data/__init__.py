"""Face sets: layouts and their splits, the check, pictures, augmentation, batches; this file imports nothing.
Import from the modules themselves, e.g. `from poster_ada.data.datasets import open_dataset`.
Of the package, modules here import only `poster_ada.errors`, `poster_ada.expressions` and `poster_ada.files`."""
