"""What rows say: curves, delta rates with their intervals, tables, plots and a page.

rows ─► curves ─► bd_rate, bootstrap ─► summary ─┬─► tables, plot
             └──► equal_quality                  └─► viewer, page (page_template/) ─► report.html
report    all of them, from a folder of results
"""
