"""A checkpoint held against a baseline on the baseline's own images: pass, regression, or not yet
decided.

`baselines` says what is held against what, `quantities` what is looked at, `verdicts` decides,
`mass` looks at heat in boxes, `history` keeps one record for each night that differs, `files` and
`section` tell people and machines.
"""
