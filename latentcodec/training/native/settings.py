"""What a training run is made of, its networks aside: the options that RUN/config.json holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a run is made of. Everything that its result depends on, pictures and machine aside."""

    pictures: str
    seed: int = 1
    batch: int = 16
    crop: int = 128
    learning_rate: float = 5e-4
    warm_up: int = 200
    structure: float = 0.4
    """The share of MS-SSIM in the distortion."""
    visible: float = 0.18
    """The share of SSIMULACRA 2's sum (nn.perceptual); MSE has what is left."""
    drawn: float = 0.05
    """The share of crops that are drawn (training.drawn), not cut from pictures."""
    average: float = 0.999
    clip: float = 200.0
    muon: bool = True
    hyper_free: int = 1000
    """Steps at the start without the rate's pull on hyperlatents, which would collapse under it."""
    autocast: bool = True
    compile: bool = False
    """Whether torch.compile fuses the networks and the loss: minutes to start, then a quarter faster. On a
    GPU it fuses the code lengths and the visible difference alone."""
    only_synthesis: bool = False
    """Whether analysis and entropy model stay as they are: the same files, decoded better."""
    threads: int = 0
    """CPU threads, 0 for PyTorch's choice: noted here, set by the program that starts the process."""
