"""What every way of recognising your own pictures says of itself."""

MANNERS = ("Labels are what annotators saw in a picture, not what a person feels; not for judging people. Pictures "
           "stay on this machine.")
