"""Rate-distortion benchmarks, run from a checkout: `python -m benchmarks --help`.

    data set ─► run × peers × metrics ─► rows.jsonl, streams/, pictures/ ─► report: tables, plots, a page
                 measure, in workers
    sample ─► demo × peers ─► comparison.png, table
    512x512 pictures ─► seed × peers, at 5,000 bytes ─► a contact sheet, table

Every bit per pixel is the bytes of a real file over the picture's own pixels, never over padded ones.
"""
