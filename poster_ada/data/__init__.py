"""Face sets: label files, layouts and their splits, the check, pictures, augmentation and batches.

Import from the modules themselves (`from poster_ada.data.datasets import open_dataset`); this file imports nothing, and
nothing here imports from the package but `poster_ada.errors`, `poster_ada.expressions` and `poster_ada.files`."""
