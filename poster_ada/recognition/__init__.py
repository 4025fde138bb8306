"""Your own pictures: find the faces, align them as a checkpoint expects, name their expression, draw it.

May import everything below paper: explain, evaluation, checkpoints, data and model.
"""
