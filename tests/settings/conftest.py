"""An experiment that writes out every field, as a person would author it."""

from typing import Any

import pytest


@pytest.fixture
def authored() -> dict[str, Any]:
    return {
        "name": "mine",
        "title": "Mine",
        "data": {
            "source": {
                "kind": "tfds",
                "name": "tf_flowers",
                "version": "3.0.1",
                "split": "all",
                "archive": "a.tgz",
            },
            "image_size": [32, 48],
            "channels": 3,
            "split": {"train": 0.75, "validation": 0.125, "test": 0.125, "seed": 1},
            "encoding": "raw",
            "shards": 8,
            "skip_corrupt": False,
        },
        "model": {"name": "cnn", "filters": [8, 16], "dropout": 0.25},
        "arms": [
            {
                "name": "first",
                "optimizer": "sgd",
                "momentum": 0.5,
                "nesterov": False,
                "l2": 0.0625,
                "decayed": ["kernel"],
                "learning_rate": {
                    "schedule": "cosine",
                    "base": 1,
                    "warmup_epochs": 1,
                    "final_fraction": 0.125,
                },
            },
            {
                "name": "second",
                "optimizer": "adamw",
                "beta_1": 0.5,
                "beta_2": 0.75,
                "epsilon": 0.0078125,
                "weight_decay": 2,
                "decayed": ["kernel", "bias"],
                "learning_rate": {
                    "schedule": "step",
                    "base": 0.5,
                    "warmup_epochs": 0,
                    "boundaries_epochs": [2, 4],
                    "factor": 0.5,
                },
            },
        ],
        "training": {
            "epochs": 8,
            "global_batch_size": 64,
            "precision": "float32",
            "log_every_steps": 10,
            "augmentation": {
                "flip": True,
                "crop_padding": 4,
                "random_resized_crop": None,
                "brightness": 0.125,
                "contrast": 0.125,
                "saturation": 0.125,
                "cutout": 8,
                "mixup": 0.25,
            },
            "label_smoothing": 0.125,
            "clip_norm": 1,
            "moving_average": 0.75,
            "early_stopping": {"metric": "accuracy", "patience": 2, "min_change": 0.125},
        },
        "compute": {"workers": 2, "threads_per_worker": 1},
        "study": {"seeds": [0, 1, 2], "metric": "accuracy", "confidence": 0.9375},
    }
