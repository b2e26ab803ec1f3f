"""Undesirable pixels over a data set: rows with masks, what controls reach, statistics, pictures.

A *variant* is a `pipeline.methods.undesirable.Undesirable` (base, F-TC, F-NTC); a *trial* is one
optimisation of it, with noise and start of its own. *Residual* is 1 - f, the probability that the
target lacks, in float64 from logits, so that it does not vanish for confident images; phi = 100 *
(residual of the image - residual of the masked one) / residual of the image (eq. 8).
"""
