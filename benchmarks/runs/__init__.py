"""Runs: every picture through every codec at every setting, a row each.

rows           a measurement as a line of rows.jsonl
environment    machine and versions, which every row names
memory         the peak of a piece of work
measure        one job ─► Row
workers        jobs ─► rows, in this process or in several
run            data set × codecs × settings ─► rows.jsonl, streams, pictures; resumes
"""
