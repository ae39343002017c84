"""A suite of seconds, with every method in it."""

TINY = {
    "name": "tiny",
    "title": "A suite of seconds",
    "width": 4,
    "activation": "relu",
    "bias": True,
    "depths": [{"target": 1, "frozen": 2}],
    "inits": ["random", "pretrained"],
    "methods": ["gradient", "last-layers", "paper", "stable", "refined"],
    "tune_bias": [True],
    "scales": {
        "smoke": {
            "seeds": [0, 1],
            "ranks": [1, 2],
            "layers": [1],
            "lr": [1e-2, 1e-3],
            "weight_decay": [0.0],
            "steps": 40,
            "batch": 32,
            "test_inputs": 500,
            "profile": "fast",
        }
    },
}

# ten cells of some ten milliseconds
QUICK = TINY | {
    "name": "quick",
    "inits": ["random"],
    "methods": ["gradient", "paper"],
    "scales": {
        "smoke": {
            "seeds": [0, 1, 2, 3, 4],
            "ranks": [1, 2],
            "lr": [1e-2],
            "weight_decay": [0.0],
            "steps": 5,
            "batch": 32,
            "test_inputs": 100,
        }
    },
}
