AUGMENTATIONS = {"published": "x", "adaface": "x", "warp": "x", "camera": "x", "none": "x"}
