"""Why a model answers as it does: attention, Grad-CAM on both streams, the architecture as a picture.

Import what a picture needs from its file; nothing here trains or scores. This room imports evaluation and what lies
below it.
"""
