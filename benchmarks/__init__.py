"""Rate-distortion benchmarks, run from a checkout: `python -m benchmarks --help`.

    folder ─► datasets ─► run × peers × metrics ─► rows.jsonl ─► curves ─► bd_rate ─► report: summary.json
                                                                   └─────► plot: rd.png
    sample ─► demo × peers ─► comparison ─► comparison.png, table

Every bit per pixel is the bytes of a real file over the picture's own pixels, never over padded ones.
"""
