"""Rate-distortion benchmarks, run from a checkout: `python -m benchmarks --help`.

    pictures       data sets, drawn pictures ─► uint8 (H, W, 3)
    peers          a picture and a setting ─► bytes of a whole file ─► a picture
    metrics        two pictures ─► a number
    runs           data set × peers × metrics ─► rows.jsonl, streams/, pictures/
    report         rows ─► curves, BD-rates, tables, plots, a page
    experiments    pictures at equal bytes, where the time goes, where the native model fails ...
    commands       python -m benchmarks run | report | demo | seed | at-size | failures | speed ...

Each room imports from those above it only. Every bit per pixel is the bytes of a real file over the picture's
own pixels, never over padded ones.
"""
