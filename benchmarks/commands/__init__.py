"""The commands of `python -m benchmarks`, by what they are about; each loads what it needs when it runs.

options ─► runs: run, report    pictures: demo, seed, at-size, failures    costs: speed, networks
           latents
"""
