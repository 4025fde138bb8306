"""In which order a network sees a picture's colour channels."""

COLOUR_ORDERS = ("BGR", "RGB")
CHANNEL_ORDERS = (*COLOUR_ORDERS, "grey")  # grey: colours become their brightness, three times
