"""From a face set to a run on disk: the recipe (without torch), one visible loop, SAM, and what a run's folder holds.

Import `TrainConfig` from `recipe`, `train` from `loop`, `Run` from `runs`. This room imports evaluation and what lies
below it.
"""
